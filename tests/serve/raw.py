"""HTTP as bytes: what goes over a socket, and what comes back until the server hangs up.

Belongs here: sending, and taking answers apart.
"""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import Final

from pipeline.api.usage import PATH
from pipeline.serve import Server
from tests.serve.asking import END, START

WINDOW: Final = f"start_time={START}&end_time={END}"
TARGET: Final = f"{PATH}?{WINDOW}&bucket_width=1h"
REQUEST: Final = f"GET {PATH}?{WINDOW} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def page(buckets: int, *headers: str, target: str = TARGET, version: str = "1.1") -> bytes:
    """A request for so many buckets, by which its answer is known."""
    lines = [f"GET {target}&limit={buckets} HTTP/{version}", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def connected(server: Server, own_address: str | None = None) -> socket.socket:
    """A connection to the server, from one of the addresses of this machine."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    source = None if own_address is None else (own_address, 0)
    return socket.create_connection((host, int(port)), timeout=60, source_address=source)


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    came = b""
    try:
        while piece := connection.recv(65_536):
            came += piece
    except ConnectionResetError:  # closed with something of ours unread
        return came
    return came


def answers(server: Server, *pieces: bytes) -> list[int]:
    """What is answered to these bytes until the server hangs up, in order.

    A page is the number of its buckets; any other answer is its status.
    """
    with closing(connected(server)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):  # it has heard enough
            pass
        return taken_apart(said(connection))


def taken_apart(came: bytes) -> list[int]:
    """The answers in these bytes; each is whole."""
    found: list[int] = []
    while came:
        head, _, rest = came.partition(b"\r\n\r\n")
        version, status = head.split(b" ", 2)[:2]
        assert version == b"HTTP/1.1"
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert len(rest) >= length
        body, came = rest[:length], rest[length:]
        found.append(len(json.loads(body)["data"]) if status == b"200" else int(status))
    return found
