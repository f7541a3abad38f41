"""Docker's API over HTTP, asked without a proxy, with the machine's client certificate where there is one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from ssl import SSLContext

Answer = TypeVar("Answer")


class DockerSilent(Exception):
    """Nobody answers, or not as Docker does."""


@dataclass(frozen=True, slots=True)
class DockerApi:
    """A Docker at an address; without `certs` it speaks without TLS."""

    address: str
    port: int
    certs: Path | None

    def ask(self, path: str, timeout_s: float, read: "Callable[[HTTPResponse], Answer]") -> "Answer":
        """What `read` makes of the answer. Raises DockerSilent where there is none, or it cannot be read.

        Never takes longer than `timeout_s` for each of connecting, greeting and answering.
        """
        from http.client import HTTPException

        try:
            connection = self._connection(timeout_s)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                if answer.status != 200:
                    raise DockerSilent(f"Docker answers {answer.status}")
                return read(answer)
            finally:
                connection.close()
        # TLS errors are OSErrors; the others: it is not Docker's
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise DockerSilent(str(error)) from error

    def containers(self, timeout_s: float) -> list[dict[str, Any]]:
        """Those that run, as /containers/json has them. Raises DockerSilent."""
        import json

        found: list[dict[str, Any]] = self.ask(
            "/containers/json", timeout_s, lambda answer: list(json.loads(answer.read()))
        )
        return found

    def changes(self, connect_s: float) -> Iterator[None]:
        """Once when it listens, then each time when a container starts or ends. Raises DockerSilent at the end."""
        from http.client import HTTPException
        from urllib.parse import quote

        wanted = '{"type":["container"],"event":["start","die"]}'
        try:
            connection = self._connection(connect_s)
            try:
                connection.connect()
                line = connection.sock  # with the answer it is no longer the connection's
                connection.request("GET", f"/events?filters={quote(wanted)}")
                answer = connection.getresponse()
                if answer.status != 200:
                    raise DockerSilent(f"Docker answers {answer.status}")
                line.settimeout(None)  # an idle Docker says nothing for days
                yield
                while answer.readline():
                    yield
            finally:
                connection.close()
        except (OSError, HTTPException, ValueError) as error:
            raise DockerSilent(str(error)) from error
        raise DockerSilent("Docker hung up")

    def _connection(self, timeout_s: float | None) -> "HTTPConnection":
        """One that is made with the first question. Raises OSError for certificates that cannot be read."""
        from http.client import HTTPConnection, HTTPSConnection

        context = self.tls()
        if context is None:
            return HTTPConnection(self.address, self.port, timeout=timeout_s)
        return HTTPSConnection(self.address, self.port, timeout=timeout_s, context=context)

    def tls(self) -> "SSLContext | None":
        """What it is spoken to with; None for without. Raises OSError for certificates that cannot be read."""
        import ssl

        if self.certs is None:
            return None
        context = ssl.create_default_context(cafile=str(self.certs / "ca.pem"))
        context.load_cert_chain(self.certs / "cert.pem", self.certs / "key.pem")
        return context
