"""boot2docker's profile and flags, and the settings that replace them; docs/boot2docker.md lists all of them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from b2d.formats import numbers

NUMBER_LIMIT = 10**12
RELEASES = "https://api.github.com/repos/boot2docker/boot2docker/releases"
WAIT_SETTINGS = {"waittime": 300, "retries": 75}  # milliseconds, and number of retries
WAIT_S = 300  # the minimum: the waits of 2014 were for machines whose CPU is not emulated

# in lower case, as boot2docker ignored case; without the flags' dashes
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
IGNORED = {"init", "dir"}  # written by `boot2docker config` for itself
NETWORK = "there is no host-only network to set up"
SSH = "b2d has its own SSH client, and each machine its own key"
CONSOLE = "the console is always logged: b2d logs"
CLIENT = "b2d does not change programs of this host"
REASONS = {
    **dict.fromkeys(("hostip", "netmask", "dhcpenabled", "dhcp", "dhcpip", "lowerip", "upperip"), NETWORK),
    **dict.fromkeys(("ssh", "sshgen", "sshkeygen", "sshkey"), SSH),
    **dict.fromkeys(("serial", "serialfile"), CONSOLE),
    **dict.fromkeys(("clobber", "forceupgradedownload"), CLIENT),
    "verbose": "-v is an option of the command line",
    "vbm": "b2d uses VirtualBox's API: set `vboxapi`",
    "basevmdk": "only `b2d init` can copy a disk",
    "nodummy": "it had no effect in 2014 either",
}
# values that `boot2docker config` wrote by default, so that they express no choice of the user's
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
    **{word: (default,) for word, default in WAIT_SETTINGS.items()},
}

# removed flags: those without a value, and those with one
SWITCHES = ("--dhcp", "--serial", "--clobber", "--force-upgrade-download")
VALUED = (
    *("--sshport", "--dockerport", "--iso", "--iso-url", "--waittime", "--retries", "--dir"),
    *("--hostip", "--netmask", "--dhcpip", "--lowerip", "--upperip", "--serialfile"),
    *("--ssh", "--ssh-keygen", "--sshkey", "--vbm", "--basevmdk", "--vbox-share", "--no-dummy"),
)


def profile_path(environ: Mapping[str, str]) -> Path | None:
    """Return the path where boot2docker looks for its profile; None for a user without a home."""
    if chosen := environ.get("BOOT2DOCKER_PROFILE"):
        return Path(chosen)
    folder = environ.get("BOOT2DOCKER_DIR")
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if folder:
        return Path(folder) / "profile"
    return Path(home) / ".boot2docker" / "profile" if home else None


def profile_settings(profile: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return the entries of the profile in `folder` without defaults, all of which `boot2docker config` writes."""
    return {word: value for word, value in profile.items() if not _is_default(_normalize(word), value, folder)}


def _is_default(word: str, value: object, folder: Path) -> bool:
    names = {"serialfile": ".sock", "sshkey": "id_boot2docker", "iso": str(folder / "boot2docker.iso")}
    return word in IGNORED or value in USUAL.get(word, ()) or (word in names and str(value).endswith(names[word]))


def convert_options(options: Mapping[str, object]) -> list[tuple[str, str, object]]:
    """Return each option's word, the setting that replaces it, and its value there."""
    words = {_normalize(word): word for word in options}
    if "iso" in words and "isourl" in words:  # boot2docker fetched the URL when the ISO did not exist
        has_iso = os.path.exists(str(options[words["iso"]]))  # noqa: PTH110  pathlib's raises for an invalid name
        del words["isourl" if has_iso else "iso"]
    converted = []
    for plain, word in words.items():
        value = options[word]
        if plain in WAIT_SETTINGS and _number(value) is not None:
            value = _wait_seconds({name: options.get(words.get(name, "")) for name in WAIT_SETTINGS})
        elif (plain, value) == ("isourl", RELEASES):
            value = "boot2docker"
        elif plain == "vboxshare":
            value = _folders(value)
        if plain in SETTINGS and (plain, _number(value)) != ("dockerport", 0):  # 0: no port in 2014
            converted.append((word, SETTINGS[plain], value))
    return converted


def _wait_seconds(options: Mapping[str, object]) -> int:
    """Return the total wait in seconds: milliseconds per try, times the number of tries."""
    milliseconds, tries = (_number(options[name]) or default for name, default in WAIT_SETTINGS.items())
    return max(WAIT_S, -(-milliseconds * tries // 1000))


def _folders(value: object) -> tuple[str, ...]:
    """Return the host's folders of DIR=NAME pairs: NAME was the mount point, now folders keep their host path."""
    pairs = value if isinstance(value, (list, tuple)) else [value]
    return () if "disable" in pairs else tuple(str(pair).partition("=")[0] for pair in pairs)


def _number(value: object) -> int | None:
    """Return a value that is a number, or reads as one; None for others and for numbers beyond any setting's range."""
    text = str(value) if type(value) is int and abs(value) <= NUMBER_LIMIT else value
    try:
        return numbers.parse(text, NUMBER_LIMIT) if isinstance(text, str) else None
    except ValueError:
        return None


def unsupported_options(options: Iterable[str]) -> str:
    """Return one line with the words that are no setting any more and the reasons; "" when all are supported."""
    reasons: dict[str, list[str]] = {}
    for word in options:
        plain = _normalize(word)
        if plain not in SETTINGS:
            reasons.setdefault(REASONS.get(plain) or _unknown(plain), []).append(word)
    return "; ".join(f"{', '.join(words)} ({reason})" for reason, words in reasons.items())


def _unknown(word: str) -> str:
    import difflib

    matches = difflib.get_close_matches(word, [*SETTINGS, *REASONS], n=1)
    return f"unknown: did you mean {matches[0]}?" if matches else "unknown"


def _normalize(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
