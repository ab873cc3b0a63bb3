"""The emulator as a server on this machine: sockets, threads and lifetime."""

import asyncio
import errno
import ipaddress
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.emulator.app import build_app
from pipeline.emulator.faults import FaultPlan, Faults
from pipeline.emulator.gateway import Gateway, RequestLog
from pipeline.emulator.world import World

_PATIENCE_MS = 2_000
"""How long a server that stops waits for answers that are under way."""


def secret_of(key_id: str) -> str:
    """The bearer secret of an API key id, plainly a fake: `emulator-key-web` for `key_web`."""
    return "emulator-" + key_id.replace("_", "-")


class EmulatorServer:
    """A context manager that serves `world` on the loopback interface, in a thread of its own.

    On entry the server is ready; on exit it has stopped and its port is free. `requests` is what it
    has served so far, as (method, path and query, status), the status of a refused connection being
    0. Assigning to `faults` starts their plan anew. Raises ValueError for a host that is not
    loopback and OSError for a port that is taken.
    """

    def __init__(
        self,
        world: World | None = None,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.world = World() if world is None else world
        self.requests: RequestLog = []
        self.api_keys: dict[str, str] = {key: secret_of(key) for key in self.world.keys}
        self._plan = FaultPlan(faults or Faults())
        self._host, self._port = _loopback(host), port
        self._thread: threading.Thread
        self._server: _Server

    @property
    def faults(self) -> Faults:
        """The switches in force."""
        return self._plan.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._plan = FaultPlan(faults)

    @property
    def api_key(self) -> str:
        """The secret of the world's first API key."""
        return next(iter(self.api_keys.values()))

    @property
    def base_url(self) -> str:
        """The server's address, without a path and without a slash at its end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def reset_quota(self) -> None:
        """Let the quota start anew."""
        self._plan.reset_quota()

    def __enter__(self) -> Self:
        listening = self._bind()
        self._server = _Server(self._config())
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="emulator", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._thread.join()

    def run(self, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Serve until Ctrl-C. `on_ready` gets the address once requests are answered."""
        with suppress(KeyboardInterrupt), self:
            on_ready(self.base_url)
            while self._thread.is_alive():  # a join without an end is woken by no signal
                self._thread.join(0.2)

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio turns off the delay of small writes only for a socket whose protocol is named.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
            listening.listen()
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRINUSE:
                message = (
                    f"port {self._port} on {self._host} is in use: stop what uses it, "
                    "or choose another port (0 takes any that is free)"
                )
                raise OSError(errno.EADDRINUSE, message) from error
            raise
        self._port = listening.getsockname()[1]
        return listening

    def _config(self) -> uvicorn.Config:
        connections = _Connections()
        app = build_app(self.world, lambda: self._plan, lambda: self.api_keys)
        return uvicorn.Config(
            Gateway(app, lambda: self._plan, self.requests, connections.hang_up),
            http=connections.protocol(),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
        )


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it is ready and stops without a delay."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def stop(self) -> None:
        """Ask the server, from any thread, to end what it is answering and then itself."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has seen that already, and its loop is closed
                self._loop.call_soon_threadsafe(self._woken.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    async def main_loop(self) -> None:
        # Uvicorn looks at its flags ten times a second; here `stop` wakes it at once.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Uvicorn's own always takes a tenth of a second, which hundreds of tests would feel.
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_PATIENCE_MS):
            if not self.server_state.connections and not self.server_state.tasks:
                return
            await asyncio.sleep(0.001)
        for task in list(self.server_state.tasks):
            task.cancel()


class _Connections:
    """The open connections by client address: ASGI itself has no way to cut one."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int] | None, H11Protocol] = {}

    def hang_up(self, client: tuple[str, int]) -> None:
        self._open[client].transport.close()

    def protocol(self) -> type[H11Protocol]:
        """Uvicorn's protocol class, made to note its connections here."""
        opened = self._open

        class Tracked(H11Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(cast("asyncio.Transport", transport))
                opened[self.client] = self

            def connection_lost(self, exc: Exception | None) -> None:
                opened.pop(self.client, None)
                super().connection_lost(exc)

        return Tracked


def _loopback(host: str) -> str:
    """`host` as a loopback address. Raises ValueError when it is anything else."""
    host = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(f"the emulator serves loopback only (127.0.0.1, ::1), not {host!r}")
    return host
