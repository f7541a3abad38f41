"""Start machines at login: a systemd unit, a launchd agent or a Task Scheduler task."""
