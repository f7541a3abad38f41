"""Tell people on stderr what a command does."""
