"""Networks in the sections that other engines know."""
