"""What a machine may be called: what is a folder's name on every system, and near enough a host's."""

DEFAULT_NAME = "boot2docker-vm"
LIMIT = 63  # a host name's; VirtualBox and file systems allow more
PUNCTUATION = "-_."
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
NUMBERED = ("com", "lpt")
DEVICES = frozenset(("con", "prn", "aux", "nul"))  # no file can be called so on Windows, whatever its ending
HINT = f"use letters, digits and {' '.join(PUNCTUATION)}, no sign first, no dot last, {LIMIT} at most"


def is_valid(name: str) -> bool:
    """True where it can be a machine's name, and so a folder's."""
    return (
        LETTERS.union(PUNCTUATION).issuperset(name)
        and name[:1] in LETTERS
        and not name.endswith(".")  # Windows drops it
        and len(name) <= LIMIT
        and not _is_device(name.partition(".")[0].lower())
    )


def command_for(verb: str, machine: str) -> str:
    """Return the command for that machine."""
    return f"b2d {verb}" if machine == DEFAULT_NAME else f"b2d {verb} --vm {machine}"


def _is_device(word: str) -> bool:
    return word in DEVICES or (len(word) == 4 and word[:3] in NUMBERED and word[3].isdigit())
