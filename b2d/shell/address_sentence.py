"""The sentence before the address that `boot2docker ip` shows, as the tutorials of 2014 have it."""

import sys

SENTENCE = "The VM's IP address on this host is: "  # in 2014 "The VM's Host only interface IP address is: "


def write_sentence() -> None:
    """Write the sentence for a person who typed `boot2docker`: on stderr, and only where stdout is a terminal too."""
    if sys.argv[0].endswith(("boot2docker", "boot2docker.exe")) and sys.stdout.isatty() and sys.stderr.isatty():
        sys.stderr.write(SENTENCE)
        sys.stderr.flush()
