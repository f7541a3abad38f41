"""Load, check and edit settings."""
