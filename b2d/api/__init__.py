"""Use b2d from Python programs: `from b2d import Machine`."""
