"""Which of several solutions to keep."""
