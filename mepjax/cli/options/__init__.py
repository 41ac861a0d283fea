"""Options that commands share, in groups, and their checks."""
