"""Write an ISO 9660 image with Rock Ridge names that boots on a BIOS."""

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
    """Write an image with `files` by absolute path, /isolinux/isolinux.bin among them.

    The same input gives the same bytes.
    """
    with ExitStack() as opened, _frozen_clock(mtime) as pycdlib:
        iso = pycdlib.PyCdlib()
        iso.new(interchange_level=3, rock_ridge="1.09", vol_ident=label[:LABEL_LIMIT], sys_ident="LINUX")
        folders: dict[str, str] = {"/": ""}
        names: set[str] = set()
        for path in sorted(files):
            folder = _ensure_folder(iso, PurePosixPath(path).parent, folders)
            name = _short_name(PurePosixPath(path).name, folder, names)
            content = files[path]
            stream: BinaryIO = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
            opened.enter_context(stream)
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            iso.add_fp(stream, size, name, rr_name=PurePosixPath(path).name, file_mode=0o100444)
            if path == BOOT_FILE:
                boot = name
        # isolinux needs its own location in the image: the "boot info table"
        iso.add_eltorito(boot, bootcatfile="/ISOLINUX/BOOT.CAT;1", rr_bootcatname="boot.cat", boot_info_table=True)
        iso.write(str(output))
        iso.close()


def _ensure_folder(iso: Any, path: PurePosixPath, folders: dict[str, str]) -> str:
    """Return the short path of a folder, and create it and its parents where missing."""
    if str(path) not in folders:
        above = _ensure_folder(iso, path.parent, folders)
        folders[str(path)] = f"{above}/{_plain(path.name)[:8]}"
        iso.add_directory(folders[str(path)], rr_name=path.name, file_mode=0o040555)
    return folders[str(path)]


def _short_name(name: str, folder: str, taken: set[str]) -> str:
    """Return a file's ISO 9660 path: a name of eight characters, an extension of three, and a version."""
    stem, _, extension = name.partition(".")
    number = 0
    while True:
        digits = str(number) if number else ""
        short = f"{folder}/{_plain(stem)[: 8 - len(digits)]}{digits}.{_plain(extension)[:3]};1"
        if short not in taken:
            taken.add(short)
            return short
        number += 1


def _plain(text: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in text.upper())


@contextmanager
def _frozen_clock(seconds: int) -> Iterator[Any]:
    """Yield the library with a clock fixed at `seconds` in UTC: it writes the current time everywhere."""
    import pycdlib
    from pycdlib import dates, headervd, utils
    from pycdlib import pycdlib as main

    overrides: dict[str, Any] = {"time": lambda: float(seconds), "localtime": time.gmtime}
    clock = SimpleNamespace(**(vars(time) | overrides))
    modules: list[Any] = [module for module in (main, headervd, dates, utils) if hasattr(module, "time")]
    for module in modules:
        module.time = clock
    try:
        yield pycdlib
    finally:
        for module in modules:
            module.time = time
