"""Two tiny proxies on loopback that write down where they were asked to connect.

Belongs here: HTTP's CONNECT and SOCKS 5, with and without a password, and their refusals.
"""

from __future__ import annotations

import base64
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer

from tests.bounded import join


@dataclass
class Proxy:
    """Where it listens, and the `host:port` that it was asked for."""

    address: str
    asked: list[str] = field(default_factory=list[str])


Handle = Callable[[socket.socket, Proxy], tuple[str, int] | None]
"""Do the handshake, and say where to connect; None where it was refused."""


@contextmanager
def connect_proxy(
    status: int = 200, password: str | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Proxy]:
    """An HTTP proxy that answers CONNECT with `status`; 407 without `user:password`."""
    wanted = f"Basic {base64.b64encode(f'user:{password}'.encode()).decode()}"

    def handle(client: socket.socket, proxy: Proxy) -> tuple[str, int] | None:
        lines = _until(client, b"\r\n\r\n").decode().split("\r\n")
        target = lines[0].split(" ")[1]
        proxy.asked.append(target)
        answer = status
        if password and f"proxy-authorization: {wanted.lower()}" not in map(str.lower, lines):
            answer = 407
        client.sendall(f"HTTP/1.1 {answer} as planned\r\nContent-Length: 0\r\n\r\n".encode())
        host, _, port = target.rpartition(":")
        return (host.strip("[]"), int(port)) if answer == 200 else None

    with _serving(handle, tls) as proxy:
        yield proxy


@contextmanager
def socks_proxy(reply: int = 0, password: str | None = None) -> Iterator[Proxy]:
    """A SOCKS 5 proxy that answers CONNECT with `reply`, and takes `user:password` if it has one.

    Names are connected to as 127.0.0.1.
    """

    def handle(client: socket.socket, proxy: Proxy) -> tuple[str, int] | None:
        methods = _exactly(client, _exactly(client, 2)[1])
        method = 2 if password else 0
        if method not in methods:
            client.sendall(b"\x05\xff")
            return None
        client.sendall(bytes([5, method]))
        if password:
            name = _exactly(client, _exactly(client, 2)[1])
            word = _exactly(client, _exactly(client, 1)[0])
            right = (name, word) == (b"user", password.encode())
            client.sendall(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return None
        kind = _exactly(client, 4)[3]
        if kind == 3:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _exactly(client, size))
        port = int.from_bytes(_exactly(client, 2))
        proxy.asked.append(f"{host}:{port}")
        client.sendall(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        return None if reply else ("127.0.0.1" if kind == 3 else host, port)

    with _serving(handle) as proxy:
        yield proxy


@contextmanager
def no_proxy_at_all(says: bytes) -> Iterator[Proxy]:
    """A server that says something to whoever connects, and hangs up."""

    def handle(client: socket.socket, proxy: Proxy) -> None:
        client.recv(4_096)
        client.sendall(says)

    with _serving(handle) as proxy:
        yield proxy


@contextmanager
def _serving(handle: Handle, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            with suppress(OSError, IndexError), ExitStack() as stack:
                if tls is not None:
                    client = stack.enter_context(tls.wrap_socket(client, server_side=True))
                target = handle(client, proxy)
                if target is not None:
                    with socket.create_connection(target, timeout=10) as server:
                        _relay(client, server)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            join(thread)


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes, until either side ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while events := ready.select(timeout=10):
            for key, _ in events:
                source, target = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                came = source.recv(65_536)
                if not came:
                    return
                target.sendall(came)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    target.sendall(source.recv(65_536))


def _exactly(client: socket.socket, count: int) -> bytes:
    came = b""
    while len(came) < count:
        more = client.recv(count - len(came))
        if not more:
            raise ConnectionError("the client has hung up")
        came += more
    return came


def _until(client: socket.socket, end: bytes) -> bytes:
    came = b""
    while not came.endswith(end):
        came += _exactly(client, 1)
    return came
