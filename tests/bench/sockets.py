"""An image to the machine and back, over its Unix socket and over its TCP port, as whole docker commands."""

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
    """Measure each row in turn. `home` has an image of b2d already; the data cannot be compressed."""
    figures = table(
        *(Figure(action + PORT) for action in (SAVE, LOAD)),
        *(Figure(action + SOCKET, action + PORT, 1.1) for action in (SAVE, LOAD)),
    )
    machine = Machine("bench-socket", home=home.root, memory=1024, restrict=True)
    with machine.temporary(), tempfile.TemporaryDirectory() as work:
        file = Path(work) / "image.tar"
        by_port = plain_environment(**machine.docker_env())
        by_socket = plain_environment(DOCKER_HOST=f"unix://{machine.socket}")
        create = ["docker", "import", "-", "large"]
        subprocess.run(create, input=_tree(), env=by_port, check=True, stdout=subprocess.DEVNULL)
        for number in range(rounds + 1):
            for way, environment in ((PORT, by_port), (SOCKET, by_socket)):
                saving = seconds(["docker", "save", "-o", str(file), "large"], environment)
                back = seconds(["docker", "load", "-i", str(file)], environment)
                if number:  # the first round fills the guest's cache
                    figures.add(SAVE + way, saving)
                    figures.add(LOAD + way, back)
    return figures


def _tree() -> bytes:
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tree:
        entry = tarfile.TarInfo("large")
        entry.size = SIZE
        tree.addfile(entry, BytesIO(os.urandom(SIZE)))
    return content.getvalue()
