"""Wire the parts together: the only package that names implementations, and the use cases that need the whole."""
