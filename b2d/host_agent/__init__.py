"""Serve a running machine from this host: published ports, the Docker socket, the clock, its logs."""
