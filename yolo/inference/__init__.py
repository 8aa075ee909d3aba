"""Objects in pictures and videos."""
