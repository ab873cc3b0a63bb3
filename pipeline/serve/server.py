"""The server on a socket, and its lifetime."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

from pipeline.serve.connections import Connection, ConnectionLimits, Connections

_PATIENCE: Final = 5
"""Seconds that a server which stops waits for answers that are under way."""
_BACKLOG: Final = 2048
_LIMITS: Final = ConnectionLimits()
_TICKS: Final = 5
"""Tenths of a second after which late connections are looked for."""
_REASONS: Final = {
    errno.EADDRINUSE: (
        "port {port} on {host} is in use: stop what uses it, or choose another with --port "
        "(0 takes any that is free)"
    ),
    errno.EADDRNOTAVAIL: "{host} is no address of this machine: --host 0.0.0.0 is all that it has",
    errno.EACCES: "port {port} is for the system only: choose one above 1023 with --port",
}


class Server:
    """`app` on `host` (an IP address) and `port` (0: any that is free).

    It listens from the beginning, so OSError is raised here where it can't. `run` serves in the
    calling thread; as a context manager it serves in a thread of its own, until the block ends.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: ConnectionLimits = _LIMITS,
    ) -> None:
        self._socket = _listening(host, port)
        address = f"[{host}]" if ":" in host else host
        self.url: Final = f"http://{address}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,  # errors go to stderr; a request, which names people, nowhere
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle,
            timeout_graceful_shutdown=_PATIENCE,
        )
        self._server = _Uvicorn(config, limits)
        self._thread: threading.Thread

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until Ctrl-C or SIGTERM, which uvicorn passes on once it has stopped.

        `on_ready` is called when requests are answered.
        """
        self._server.on_ready = on_ready
        with self._socket:
            self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self.run, args=(ready.set,), name="serving")
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, which says when it is ready, and closes connections that are late."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self.server_state: Connections = Connections(limits)
        self.on_ready: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            self.server_state.close_late(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off the delay of small writes only for a socket whose protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        number = error.errno or 0
        raise OSError(
            number, _REASONS.get(number, str(error)).format(host=host, port=port)
        ) from None
    return listening
