"""Store machines on disk: their specifications, and the files that belong to them."""
