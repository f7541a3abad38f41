"""Keep machines on disk: each one's specification, and the files that belong to it."""
