"""Drive hypervisors behind one interface, `base.Driver`."""
