"""The words of boot2docker's profile and flags, and which settings they are today; docs/boot2docker.md has them all."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from b2d.formats import numbers

NUMBER_LIMIT = 10**12
RELEASES = "https://api.github.com/repos/boot2docker/boot2docker/releases"
WAIT_SETTINGS = {"waittime": 300, "retries": 75}  # milliseconds, and how often
WAIT_S = 300  # what `up` may take unasked: the patience of 2014 was for a CPU that nobody has to emulate

# in lower case, as boot2docker did not tell cases apart; without the flags' dashes
SETTINGS = {
    "vm": "vm",
    "driver": "driver",
    "memory": "memory",
    "cpus": "cpus",
    "disksize": "disk",
    "sshport": "ssh_port",
    "dockerport": "docker_port",
    "isourl": "image",
    "iso": "image",
    "waittime": "wait",
    "retries": "wait",
    "vboxshare": "share",
}
IGNORED = {"init", "dir"}  # what `boot2docker config` wrote for itself
NETWORK = "there is no host-only network to set up"
SSH = "b2d is its own SSH client, and each machine has its own key"
CONSOLE = "the console is always kept: b2d logs"
CLIENT = "b2d leaves programs of this host alone"
REASONS = {
    **dict.fromkeys(("hostip", "netmask", "dhcpenabled", "dhcp", "dhcpip", "lowerip", "upperip"), NETWORK),
    **dict.fromkeys(("ssh", "sshgen", "sshkeygen", "sshkey"), SSH),
    **dict.fromkeys(("serial", "serialfile"), CONSOLE),
    **dict.fromkeys(("clobber", "forceupgradedownload"), CLIENT),
    "verbose": "-v is said on the command line",
    "vbm": "VirtualBox is spoken to through its API: `vboxapi` says where that is",
    "basevmdk": "only `b2d init` begins with a copy of a disk",
    "nodummy": "it did nothing in 2014 either",
}
# what the profile holds that `boot2docker config` wrote: nobody asked for any of it
USUAL: dict[str, tuple[object, ...]] = {
    "verbose": (False,),
    "driver": ("virtualbox",),
    "clobber": (True, False),
    "forceupgradedownload": (False,),
    "ssh": ("ssh",),
    "sshgen": ("ssh-keygen",),
    "isourl": (RELEASES,),
    "hostip": ("192.168.59.3",),
    "netmask": ([255, 255, 255, 0],),
    "dhcpenabled": (True,),
    "dhcpip": ("192.168.59.99",),
    "lowerip": ("192.168.59.103",),
    "upperip": ("192.168.59.254",),
    "serial": (False,),
    **{word: (usual,) for word, usual in WAIT_SETTINGS.items()},
}

# the flags that have gone; those that take no value, and those that do
SWITCHES = ("--dhcp", "--serial", "--clobber", "--force-upgrade-download")
VALUED = (
    *("--sshport", "--dockerport", "--iso", "--iso-url", "--waittime", "--retries", "--dir"),
    *("--hostip", "--netmask", "--dhcpip", "--lowerip", "--upperip", "--serialfile"),
    *("--ssh", "--ssh-keygen", "--sshkey", "--vbm", "--basevmdk", "--vbox-share", "--no-dummy"),
)


def path(environ: Mapping[str, str]) -> Path | None:
    """Where boot2docker would look for its profile; None for a person without a home."""
    if chosen := environ.get("BOOT2DOCKER_PROFILE"):
        return Path(chosen)
    folder = environ.get("BOOT2DOCKER_DIR")
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if folder:
        return Path(folder) / "profile"
    return Path(home) / ".boot2docker" / "profile" if home else None


def profile_settings(said: Mapping[str, object], folder: Path) -> dict[str, object]:
    """What the profile in that folder really asks for: `boot2docker config` writes everything, as it is unasked."""
    return {word: value for word, value in said.items() if not _is_default(_is_plain(word), value, folder)}


def _is_default(word: str, value: object, folder: Path) -> bool:
    names = {"serialfile": ".sock", "sshkey": "id_boot2docker", "iso": str(folder / "boot2docker.iso")}
    return word in IGNORED or value in USUAL.get(word, ()) or (word in names and str(value).endswith(names[word]))


def settings(said: Mapping[str, object]) -> list[tuple[str, str, object]]:
    """The word, the setting that it is today, and its value there."""
    words = {_is_plain(word): word for word in said}
    if "iso" in words and "isourl" in words:  # an ISO that was not there was fetched
        there = os.path.exists(str(said[words["iso"]]))  # noqa: PTH110  pathlib's raises for a name that cannot be
        del words["isourl" if there else "iso"]
    found = []
    for plain, word in words.items():
        value = said[word]
        if plain in WAIT_SETTINGS and _number(value) is not None:
            value = _wait_seconds({name: said.get(words.get(name, "")) for name in WAIT_SETTINGS})
        elif (plain, value) == ("isourl", RELEASES):
            value = "boot2docker"
        elif plain == "vboxshare":
            value = _folders(value)
        if plain in SETTINGS and (plain, _number(value)) != ("dockerport", 0):  # 0: no port in 2014
            found.append((word, SETTINGS[plain], value))
    return found


def _wait_seconds(said: Mapping[str, object]) -> int:
    """Seconds: so many milliseconds, so many times."""
    milliseconds, times = (_number(said[name]) or usual for name, usual in WAIT_SETTINGS.items())
    return max(WAIT_S, -(-milliseconds * times // 1000))


def _folders(value: object) -> tuple[str, ...]:
    """Each was DIR=NAME, to be at /NAME in the guest; today it is where it is on the host."""
    said = value if isinstance(value, (list, tuple)) else [value]
    return () if "disable" in said else tuple(str(one).partition("=")[0] for one in said)


def _number(value: object) -> int | None:
    """What is one, or reads as one; a number that nothing can have is none."""
    text = str(value) if type(value) is int and abs(value) <= NUMBER_LIMIT else value
    try:
        return numbers.parse(text, NUMBER_LIMIT) if isinstance(text, str) else None
    except ValueError:
        return None


def unsupported_options(said: Iterable[str]) -> str:
    """One line on the words that are no setting today, each with the reason; "" where all are."""
    reasons: dict[str, list[str]] = {}
    for word in said:
        plain = _is_plain(word)
        if plain not in SETTINGS:
            reasons.setdefault(REASONS.get(plain) or _unknown(plain), []).append(word)
    return "; ".join(f"{', '.join(words)} ({reason})" for reason, words in reasons.items())


def _unknown(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, [*SETTINGS, *REASONS], n=1)
    return f"not known: {near[0]}?" if near else "not known"


def _is_plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
