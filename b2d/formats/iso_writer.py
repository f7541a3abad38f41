"""The medium: an ISO 9660 image with Rock Ridge names that starts on a BIOS."""

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, BinaryIO

LABEL_LIMIT = 32
BOOT_FILE = "/isolinux/isolinux.bin"


def write(files: dict[str, bytes | Path], label: str, mtime: int, output: Path) -> None:
    """Write the image: `files` by absolute path, /isolinux/isolinux.bin among them. Twice: the same bytes."""
    with ExitStack() as opened, _frozen_clock(mtime) as pycdlib:
        iso = pycdlib.PyCdlib()
        iso.new(interchange_level=3, rock_ridge="1.09", vol_ident=label[:LABEL_LIMIT], sys_ident="LINUX")
        made: dict[str, str] = {"/": ""}
        names: set[str] = set()
        for path in sorted(files):
            folder = _folder(iso, PurePosixPath(path).parent, made)
            name = _short(PurePosixPath(path).name, folder, names)
            content = files[path]
            stream: BinaryIO = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
            opened.enter_context(stream)
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            iso.add_fp(stream, size, name, rr_name=PurePosixPath(path).name, file_mode=0o100444)
            if path == BOOT_FILE:
                boot = name
        # a boot loader that is told its own place ("boot info table"), as isolinux wants it
        iso.add_eltorito(boot, bootcatfile="/ISOLINUX/BOOT.CAT;1", rr_bootcatname="boot.cat", boot_info_table=True)
        iso.write(str(output))
        iso.close()


def _folder(iso: Any, path: PurePosixPath, made: dict[str, str]) -> str:
    """The short path of a folder, made with those above it when it is not there."""
    if str(path) not in made:
        above = _folder(iso, path.parent, made)
        made[str(path)] = f"{above}/{_plain(path.name)[:8]}"
        iso.add_directory(made[str(path)], rr_name=path.name, file_mode=0o040555)
    return made[str(path)]


def _short(name: str, folder: str, taken: set[str]) -> str:
    """The name of a file for those who do not read Rock Ridge: eight signs, a dot, three signs, a version."""
    stem, _, ending = name.partition(".")
    number = 0
    while True:
        digits = str(number) if number else ""
        short = f"{folder}/{_plain(stem)[: 8 - len(digits)]}{digits}.{_plain(ending)[:3]};1"
        if short not in taken:
            taken.add(short)
            return short
        number += 1


def _plain(text: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in text.upper())


@contextmanager
def _frozen_clock(seconds: int) -> Iterator[Any]:
    """The library, with a clock of its own that stands still in UTC: it writes the time of day everywhere."""
    import pycdlib
    from pycdlib import dates, headervd, utils
    from pycdlib import pycdlib as main

    still: dict[str, Any] = {"time": lambda: float(seconds), "localtime": time.gmtime}
    clock = SimpleNamespace(**(vars(time) | still))
    modules: list[Any] = [module for module in (main, headervd, dates, utils) if hasattr(module, "time")]
    for module in modules:
        module.time = clock
    try:
        yield pycdlib
    finally:
        for module in modules:
            module.time = time
