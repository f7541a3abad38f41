"""Find what is wrong on this host and in this home, and fix what can be fixed."""
