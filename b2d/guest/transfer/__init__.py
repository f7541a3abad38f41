"""Copy files between this host and a guest as tar streams."""
