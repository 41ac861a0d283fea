"""What a command found: one model, and a writer for each kind of output."""
