"""Obtain and store images: build, download, verify, and extract the files for the boot."""
