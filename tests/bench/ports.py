"""Latency and throughput of a published port, compared with a forward that was given to QEMU by hand."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from b2d.drivers.qemu.qmp import Qmp
from b2d.host.polling import wait_until
from b2d.network.port_allocation import reserve_ports
from b2d.paths import Home
from tests.bench.commands import B2D
from tests.bench.rounds import Figure, Table, plain_environment, table
from tests.e2e.web import fetch, refused, server_command

APPEARS, GOES = "a port answers, after docker run -p", "it is gone, after docker rm -f"
STATIC, PUBLISHED = "100 MiB through a forward of QEMU's", "100 MiB through a published port"
HERE, BIG, SMALL, MEBIBYTES = "127.0.0.1", 20080, 20081, 100
BOX = "/usr/bin/busybox"
FILES = f"mkdir /www; echo here >/www/index.html; {BOX} dd if=/dev/zero of=/www/all bs=1M count={MEBIBYTES}"
Docker = Callable[..., str]


def measure(home: Home, rounds: int) -> Table:
    """Measure each row in turn, on one machine. `home` has an image already."""
    figures = table(Figure(APPEARS, limit=0.5), Figure(GOES, limit=0.5), Figure(STATIC), Figure(PUBLISHED, STATIC, 1.1))
    with a_machine(home) as (docker, address):
        docker("run", "-d", "-p", f"{BIG}:80", "hello", "sh", "-c", f"{FILES}; exec {BOX} httpd -f -h /www")
        static = reserve_ports(HERE, SMALL + 1)
        with Qmp(home.machine("bench").qmp_socket) as qmp:
            qmp.execute("human-monitor-command", command_line=f"hostfwd_add net tcp:{HERE}:{static}-:{BIG}")
        wait_until(lambda: fetch(address, BIG) == fetch(HERE, static) == "here", condition="the server", timeout_s=60)
        for _ in range(rounds):
            docker("run", "-d", "--name", "small", "-p", f"{SMALL}:80", "hello", *server_command("small"))
            figures.add(APPEARS, _until(lambda: fetch(address, SMALL) == fetch(HERE, SMALL) == "small"))
            docker("rm", "-f", "small")
            figures.add(GOES, _until(lambda: refused(address, SMALL) and refused(HERE, SMALL)))
            figures.add(STATIC, _fetch(HERE, static))
            figures.add(PUBLISHED, _fetch(address, BIG))
    return figures


@contextmanager
def a_machine(home: Home) -> Iterator[tuple[Docker, str]]:
    """Start a machine with the image `hello` and yield its docker client and its address."""
    environment = plain_environment(B2D_HOME=str(home.root), B2D_VM="bench", B2D_MEMORY="1024", B2D_RESTRICT="1")

    def run(*command: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(command, env=environment, input=stdin, capture_output=True, check=True).stdout

    def docker(*words: str, stdin: bytes = b"") -> str:
        return run(B2D, "run", "--", "docker", *words, stdin=stdin).decode()

    try:
        run(B2D, "up")
        tree = run(B2D, "ssh", "--", "tar", "-cC", "/", "usr/bin/busybox")
        docker("import", "--change", f'ENTRYPOINT ["{BOX}"]', "-", "hello", stdin=tree)
        yield docker, run(B2D, "ip").decode().strip()
    finally:
        run(B2D, "delete", "--yes")


def _until(happened: Callable[[], bool]) -> float:
    begin = time.monotonic()
    wait_until(happened, condition="the port", timeout_s=60, interval_s=0.01)
    return time.monotonic() - begin


def _fetch(address: str, port: int) -> float:
    """Return the seconds until all has arrived. Raises AssertionError when it is incomplete."""
    begin = time.monotonic()
    with socket.create_connection((address, port)) as connection:
        connection.sendall(b"GET /all HTTP/1.0\r\n\r\n")
        size = sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))
    assert size > MEBIBYTES << 20
    return time.monotonic() - begin
