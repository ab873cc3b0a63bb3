"""The server on a socket, and its lifetime."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

from pipeline.listening import listen, port_of
from pipeline.serve.connections import Connection, ConnectionLimits, Connections

_PATIENCE: Final = 5
"""Seconds that a server which stops waits for answers that are under way."""
_LIMITS: Final = ConnectionLimits()
_TICKS: Final = 5
"""Tenths of a second after which late connections are looked for."""


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
        self._socket = listen(host, port)
        address = f"[{host}]" if ":" in host else host
        self.url: Final = f"http://{address}:{port_of(self._socket)}"
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
