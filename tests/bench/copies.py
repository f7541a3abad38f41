"""The time of copies to and from a machine, compared with OpenSSH's scp, which speaks SFTP to the same guest."""

import os
from pathlib import Path

from b2d.paths import Home
from tests.bench.commands import B2D
from tests.bench.rounds import Figure, Table, plain_environment, seconds, table

BIG_MIB, FILES, SIZE = 16, 500, 2000
WHATS = (f"{BIG_MIB} MiB", f"{FILES} files of {SIZE} bytes")


def measure(home: Home, work: Path, rounds: int) -> Table:
    """Measure each row in turn, on one machine. `home` has an image already; `work` is an empty folder."""
    (work / "many").mkdir()
    for number in range(FILES):
        (work / "many" / str(number)).write_bytes(os.urandom(SIZE))
    (work / "big").write_bytes(os.urandom(BIG_MIB << 20))
    ways = [(name, kind, way) for kind, name in zip(WHATS, ("big", "many"), strict=True) for way in ("there", "back")]
    figures = table(
        *(
            row
            for name, kind, way in ways
            for row in (
                Figure(f"scp: {kind}, {way}"),
                Figure(f"b2d cp: {kind}, {way}", f"scp: {kind}, {way}", 0.5 if name == "many" else None),
            )
        )
    )
    environment = plain_environment(B2D_HOME=str(home.root), B2D_VM="bench", B2D_MEMORY="1024", B2D_RESTRICT="1")
    try:
        seconds([B2D, "up"], environment)
        config = work / "config"
        config.write_text(_stdout_of([B2D, "ssh-config", "--host", "box"], environment))
        for number in range(rounds):
            for name, kind, way in ways:
                local, remote = str(work / name), f"/tmp/{name}"
                paths = (local, ":" + remote) if way == "there" else (":" + remote, f"{local}-{number}")
                by_scp = [f"box{path}-scp" if path[0] == ":" else path for path in paths]
                if way == "back":
                    by_scp[1] += "-scp"
                figures.add(f"scp: {kind}, {way}", seconds(["scp", "-qrF", str(config), *by_scp], environment))
                figures.add(f"b2d cp: {kind}, {way}", seconds([B2D, "cp", *paths], environment))
            seconds([B2D, "ssh", "rm -r /tmp/big* /tmp/many*"], environment)
    finally:
        seconds([B2D, "delete", "--yes"], environment)
    return figures


def _stdout_of(command: list[str], environment: dict[str, str]) -> str:
    """Run a command that must succeed and return its stdout."""
    import subprocess

    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
