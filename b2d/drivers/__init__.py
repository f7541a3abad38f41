"""The hypervisors, each behind the door Driver of ports.py."""
