"""Import machines and disks of other tools."""
