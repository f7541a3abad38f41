"""vboxapi, VirtualBox's binding for Python, is loaded from where it lies, and what it prints is kept from everybody."""

import atexit
import contextlib
import functools
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from b2d.drivers.virtualbox.locate import INIT, NAME


@functools.cache
def manager(folder: Path) -> Any:
    """vboxapi's manager, one for this process: after the end of one no other works. It ends before Python does."""
    made = load(folder).VirtualBoxManager(None, None)
    atexit.register(made.deinit)
    return made


def load(folder: Path) -> Any:
    """Import vboxapi from its own files: nothing else of the place where it lies becomes importable."""
    if NAME in sys.modules:
        return sys.modules[NAME]
    place = folder / INIT
    described = importlib.util.spec_from_file_location(NAME, place, submodule_search_locations=[str(folder)])
    if described is None or described.loader is None:
        raise ImportError(f"{place} is not a package")
    module = importlib.util.module_from_spec(described)
    sys.modules[NAME] = module
    try:
        described.loader.exec_module(module)
    except BaseException:
        del sys.modules[NAME]
        raise
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that is printed meanwhile is seen, whoever prints it: the service starts with these files open."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a number is wanted
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in kept:
                os.dup2(nowhere.fileno(), stream)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            for stream, copy in kept.items():
                os.dup2(copy, stream)
                os.close(copy)


@contextlib.contextmanager
def in_stable_folder() -> Iterator[None]:
    """The service keeps the folder in which it was started, and so would keep a stick from being taken out."""
    try:
        here = Path.cwd()
    except OSError:  # it is gone
        here = Path(Path.home().anchor)
    os.chdir(Path.home().anchor)
    try:
        yield
    finally:
        os.chdir(here)
