"""Take over machines and disks of other tools."""
