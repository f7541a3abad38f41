"""The other end of a control port: a thread that listens as the guest does."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from b2d.host import unix_sockets


@contextmanager
def guest(path: Path, answers: Sequence[bytes]) -> Iterator[list[bytes]]:
    """One that hears what is said, in the list, and then answers piece by piece."""
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
