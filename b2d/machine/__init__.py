"""Run the life of a machine: init, up, stop, save, delete, snapshots, upgrade, recovery."""
