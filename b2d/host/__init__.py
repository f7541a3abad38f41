"""This host: files, processes, signals, sockets, package managers."""
