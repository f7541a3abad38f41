"""The Linux inside a machine: what it is given of this host, and how it is reached."""
