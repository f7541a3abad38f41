"""An office network on loopback: a proxy with a password that resolves names, and a name server.

Started as a program with the password as its argument; it writes a line for each request to the proxy.
"""

import base64
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HERE = "127.0.0.1"
PROXY_PORT = 3128
USER = "me"
TLS, PLAIN = "registry.corp.test:5000", "plain.corp.test:5001"  # registries
NAMES = tuple(name.partition(":")[0] for name in (TLS, PLAIN))  # only the proxy knows their address: this host
ANSWER = "192.0.2.7"  # the answer to every DNS query


def copy(source: socket.socket, to: socket.socket) -> None:
    """Copy data one way until either side ends."""
    try:
        while some := source.recv(65536):
            to.sendall(some)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Proxy(BaseHTTPRequestHandler):
    """A proxy that forwards requests with the right password."""

    password = ""

    def _leads(self, host: str, port: int, first: bytes) -> None:
        expected = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        authorization = self.headers.get("Proxy-Authorization", "")
        code = 407 if authorization != f"Basic {expected}" else 200 if host in NAMES else 502
        sys.stdout.write(f"{self.command} {host}:{port} {code}\n")  # one write, as other threads write too
        sys.stdout.flush()
        if code != 200:
            self.send_error(code)
            return
        with socket.create_connection((HERE, port)) as server:
            if first:
                server.sendall(first)
            else:
                self.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=copy, args=(server, self.connection))
            back.start()
            copy(self.connection, server)
            back.join()
        self.close_connection = True

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        self._leads(host, int(port), b"")

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        headers = [f"{name}: {value}" for name, value in self.headers.items() if not name.startswith("Proxy-")]
        lines = [f"{self.command} {address.path} HTTP/1.0", *headers, "Connection: close", "", ""]
        self._leads(address.hostname or "", address.port or 80, "\r\n".join(lines).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def names() -> None:
    """Run a name server that has one address for every name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HERE, 53))
        while True:
            query, where = server.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            question, kind = query[12:end], query[end - 4 : end - 2]
            is_address = kind == b"\0\1"
            head = query[:2] + b"\x81\x80" + b"\0\1" + bytes((0, is_address)) + bytes(4)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(ANSWER) if is_address else b""
            server.sendto(head + question + record, where)


if __name__ == "__main__":
    Proxy.password = sys.argv[1]
    proxy = ThreadingHTTPServer((HERE, PROXY_PORT), Proxy)
    threading.Thread(target=names, daemon=True).start()
    print("ready", flush=True)
    proxy.serve_forever()
