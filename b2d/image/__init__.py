"""Obtain and keep images: build, download, verify, extract what boots."""
