"""The guest's end of a control port, in a thread."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from b2d.host import unix_sockets


@contextmanager
def guest(path: Path, answers: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Serve a control port: record the received lines in the yielded list and send the answers one by one."""
    received: list[bytes] = []
    with unix_sockets.listen(path) as server:

        def listen() -> None:
            line, _ = server.accept()
            with line:
                received.append(line.recv(1000))
                for answer in answers:
                    line.sendall(answer)

        thread = threading.Thread(target=listen)
        thread.start()
        yield received
        thread.join()
