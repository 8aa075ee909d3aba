"""Networks written in the sections that other engines know."""
