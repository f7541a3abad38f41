"""An image to the machine and back, by its Unix socket beside its TCP port: the docker client's whole command."""

import os
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from b2d import Machine
from b2d.paths import Home
from tests.bench.rounds import Figure, Table, plain_environment, seconds, table

SIZE = 16 << 20
SAVE, LOAD = f"docker save of {SIZE >> 20} MiB", f"docker load of {SIZE >> 20} MiB"
PORT, SOCKET = ", by its port", ", by its socket"


def measure(home: Home, rounds: int) -> Table:
    """`home` keeps an image of b2d already. What is sent cannot be compressed."""
    found = table(
        *(Figure(what + PORT) for what in (SAVE, LOAD)),
        *(Figure(what + SOCKET, what + PORT, 1.1) for what in (SAVE, LOAD)),
    )
    machine = Machine("bench-socket", home=home.root, memory=1024, restrict=True)
    with machine.temporary(), tempfile.TemporaryDirectory() as work:
        file = Path(work) / "image.tar"
        by_port = plain_environment(**machine.docker_env())
        by_socket = plain_environment(DOCKER_HOST=f"unix://{machine.socket}")
        made = ["docker", "import", "-", "large"]
        subprocess.run(made, input=_tree(), env=by_port, check=True, stdout=subprocess.DEVNULL)
        for number in range(rounds + 1):
            for way, environment in ((PORT, by_port), (SOCKET, by_socket)):
                there = seconds(["docker", "save", "-o", str(file), "large"], environment)
                back = seconds(["docker", "load", "-i", str(file)], environment)
                if number:  # the first round fills the guest's cache
                    found.add(SAVE + way, there)
                    found.add(LOAD + way, back)
    return found


def _tree() -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tree:
        one = tarfile.TarInfo("large")
        one.size = SIZE
        tree.addfile(one, BytesIO(os.urandom(SIZE)))
    return content.getvalue()
