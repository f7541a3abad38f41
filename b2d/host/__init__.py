"""Use this host: files, processes, signals, sockets, package managers."""
