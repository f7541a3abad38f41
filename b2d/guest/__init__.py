"""Talk with the guest: what it is given at boot, what it shares, how it is ready."""
