"""Machine names: valid as folder names on every system, and close to host names."""

DEFAULT_NAME = "boot2docker-vm"
LIMIT = 63  # the limit of host names; VirtualBox and file systems allow more
PUNCTUATION = "-_."
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
NUMBERED = ("com", "lpt")
DEVICES = frozenset(("con", "prn", "aux", "nul"))  # reserved file names on Windows, with any extension
HINT = (
    f"use letters, digits and {' '.join(PUNCTUATION)}, a letter or digit first, no dot last, {LIMIT} characters at most"
)


def is_valid(name: str) -> bool:
    """Return True for a name that a machine, and so a folder, can have."""
    return (
        LETTERS.union(PUNCTUATION).issuperset(name)
        and name[:1] in LETTERS
        and not name.endswith(".")  # Windows drops it
        and len(name) <= LIMIT
        and not _is_device(name.partition(".")[0].lower())
    )


def command_for(verb: str, machine: str) -> str:
    """Return the command `b2d VERB` for a machine, with --vm unless it is the default machine.

    `verb` may have arguments; those after " -- " are the guest's, and --vm stands before them.
    """
    if machine == DEFAULT_NAME:
        return f"b2d {verb}"
    own, separator, arguments = verb.partition(" -- ")
    return f"b2d {own} --vm {_quoted(machine)}{separator}{arguments}"


def commands_for(verbs: "tuple[str, ...]", machine: str) -> str:
    """Return the commands for a machine as one line, in which each runs when the one before has succeeded."""
    return " && ".join(command_for(verb, machine) for verb in verbs)


def _quoted(name: str) -> str:
    """Return the name for a shell: a valid one as it is, any other quoted."""
    if is_valid(name):
        return name
    import shlex  # slow to import, and valid names do not need it

    return shlex.quote(name)


def _is_device(word: str) -> bool:
    return word in DEVICES or (len(word) == 4 and word[:3] in NUMBERED and word[3].isdigit())
