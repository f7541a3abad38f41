"""Drive QEMU: one process a machine, controlled over QMP."""
