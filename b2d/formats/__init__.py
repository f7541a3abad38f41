"""Binary and text formats of foreign files, parsed with limits."""
