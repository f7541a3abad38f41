"""A small web server in a container, and a client for it."""

import socket

PATIENCE_S = 10.0


def server_command(text: str) -> list[str]:
    """Return the command of a web server for a container of `hello`, which answers on port 80."""
    server = f"mkdir -p /www; echo {text} >/www/index.html; exec /usr/bin/busybox httpd -f -p 80 -h /www"
    return ["sh", "-c", server]


def fetch(address: str, port: int) -> str:
    """Return the answer of a web server, "" without one."""
    try:
        with socket.create_connection((address, port), PATIENCE_S) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode().rpartition("\r\n\r\n")[2].strip()
    except OSError:
        return ""


def refused(address: str, port: int) -> bool:
    """Return True when the connection is refused; a server that ends in that moment resets it."""
    try:
        socket.create_connection((address, port), PATIENCE_S).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False
