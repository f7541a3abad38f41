"""Parse and write file formats; foreign files are limited and checked."""
