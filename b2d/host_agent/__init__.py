"""The process beside a running machine: it carries connections into the guest, for the machine's owner alone."""
