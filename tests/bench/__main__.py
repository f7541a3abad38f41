"""`python -m tests.bench`: measure b2d beside its yardsticks, and write docs/benchmarks.md with --write.

Needs root, debootstrap, a Debian mirror, and the extra `bench`; takes a quarter of an hour under emulation.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from b2d.host.files import private_folder
from b2d.image.build.builder import BuildRequest, build_image
from b2d.image.image_store import ImageStore
from b2d.paths import Home
from tests.bench import clock, commands, copies, folders, machines, ports, report, room, sockets
from tests.bench.rounds import Figure, Table, table
from tests.support import newer_qemu
from tests.support.fakes import FakeReporter
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
CACHE = Path.home() / ".cache" / "b2d-tests"
MARK = "<!-- what follows is written by python -m tests.bench --write -->"
BUILD, SIZE = "b2d iso build, packages fetched before", "size of the image"


def main() -> int:
    """Run all measurements and return 0 when every figure is within its limit."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b2d-") as work:
        home = Home(private_folder(Path(work) / "home"))
        image = _image(home, Path(work) / "b2d.iso")
        verbs = commands.measure(private_folder(Path(work) / "verbs"), 5 * options.rounds)
        machine = machines.measure(private_folder(CACHE), home, options.rounds)
        published = ports.measure(home, options.rounds)
        socket = sockets.measure(home, options.rounds)
        copied = copies.measure(home, private_folder(Path(work) / "copies"), options.rounds)
        shared = folders.measure(home, newer_qemu.ensure_programs(private_folder(CACHE)), options.rounds)
        given_back = room.measure(home, options.rounds)
        after_sleep = clock.measure(home, options.rounds)
    parts = (
        ("Machines", machine),
        ("Commands", verbs),
        ("Folders", shared),
        ("Image", image),
        ("Published ports", published),
        ("The machine's socket", socket),
        ("Copies", copied),
        ("Disk and memory", given_back),
        ("Clock", after_sleep),
    )
    text = "\n".join(f"## {title}\n\n{report.markdown(part)}" for title, part in parts)
    sys.stdout.write(text)
    if options.write:
        _write(text, machine, verbs)
    missed = [line for _, part in parts for line in report.missed(part)]
    for line in missed:
        sys.stderr.write(f"above what is asked: {line}\n")
    return 1 if missed else 0


def _image(home: Home, iso: Path) -> Table:
    """Build the image twice, the second time with all packages cached, and store it in `home`."""
    figures = table(Figure(BUILD, limit=60.0), Figure(SIZE, limit=90, unit="MB"))
    request = BuildRequest("amd64", "", private_folder(CACHE), iso)
    for warm in (False, True):
        begin = time.monotonic()
        build_image(request, FakeReporter())
        if warm:
            figures.add(BUILD, time.monotonic() - begin)
    figures.add(SIZE, iso.stat().st_size / 1e6)
    ImageStore(home).add_copy(iso, "debian")
    return figures


def _write(text: str, machine: Table, verbs: Table) -> None:
    """Replace the figures of the page by new ones; the text above them stays."""
    page = DOCS / "benchmarks.md"
    above = page.read_text().partition(MARK)[0]
    page.write_text(f"{above}{MARK}\n\nMeasured {datetime.now(UTC):%Y-%m-%d} on {machines.host()}.\n\n{text}")
    report.picture(machine, "From the key press to the Docker API answering", DOCS / "benchmarks-machines.svg")
    report.picture(verbs, "Whole commands", DOCS / "benchmarks-commands.svg")


if __name__ == "__main__":
    if shutil.which("debootstrap") is None:
        sys.exit("debootstrap is not installed: apt-get install debootstrap")
    sys.exit(main())
