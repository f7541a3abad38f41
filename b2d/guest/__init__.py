"""The guest: its data at boot, shared folders, readiness, and connections to it."""
