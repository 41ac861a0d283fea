"""The commands. Each reads, solves and reports."""
