"""Parse and write file formats; what others wrote is bounded and checked."""
