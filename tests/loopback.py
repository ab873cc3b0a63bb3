"""A server on loopback that writes down what reaches it and always answers the same.

Belongs here: connections whose other end is no API at all, by TLS too.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.bounded import finished, join


@dataclass(frozen=True, slots=True)
class Loopback:
    """The server's address, and the requests that reached it: method and path, then headers.

    `arrived`: when each did, by the clock that all processes of a machine share.
    """

    url: str
    requests: list[str] = field(default_factory=list[str])
    arrived: list[float] = field(default_factory=list[float])

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def answering(
    status: int,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> Iterator[Loopback]:
    """Serve until the end of the block."""
    requests: list[str] = []
    arrived: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            arrived.append(time.monotonic())
            requests.append(f"{self.requestline}\n{self.headers}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: it is no news."""

    for method in ("GET", "POST"):
        setattr(Handler, f"do_{method}", Handler.answer)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Nothing: clients that do not trust it hang up, as they should."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            scheme = "http" if tls is None else "https"
            yield Loopback(f"{scheme}://127.0.0.1:{server.server_port}", requests, arrived)
        finally:
            server.shutdown()
            join(thread)


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that nobody has signed, for an address or a host; and a server that has it."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    finished(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=planted"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", f"subjectAltName={kind}:{name}", "-keyout", key, "-out", cert),
        ]
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return cert, server
