"""A small web server in a container, and whether it answers here."""

import socket

PATIENCE_S = 10.0


def server_command(text: str) -> list[str]:
    """What a container of the image `hello` runs, so that its port 80 says so."""
    server = f"mkdir -p /www; echo {text} >/www/index.html; exec /usr/bin/busybox httpd -f -p 80 -h /www"
    return ["sh", "-c", server]


def fetch(address: str, port: int) -> str:
    """What a web server there answers, "" where there is none."""
    try:
        with socket.create_connection((address, port), PATIENCE_S) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode().rpartition("\r\n\r\n")[2].strip()
    except OSError:
        return ""


def refused(address: str, port: int) -> bool:
    """Tell whether nobody takes a connection there; one who ends in that moment resets it."""
    try:
        socket.create_connection((address, port), PATIENCE_S).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False
