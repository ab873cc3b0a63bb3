"""A closed loop of requests over connections that are kept alive: how many are answered, and when.

Belongs here: the client's side of the serving benchmark. It does as little as it can for a request,
since it runs on the same machine: it writes bytes that were made before, and looks at nothing in
the answer but its status and its length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

_OK: Final = b"HTTP/1.1 200 "
_BUSY: Final = b"HTTP/1.1 503 "
_LENGTH: Final = b"content-length: "


@dataclass
class Load:
    """What came of it. Times in seconds, of pages; `cpu` is what this process itself has used.

    `refused`: answers that said to come again, which have no latency here.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    received: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list[float])

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """The latency that this share of requests did not exceed."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


def load(host: str, port: int, requests: Iterator[bytes], connections: int, lasting: float) -> Load:
    """Send `requests` for some seconds, or to their end, `connections` at a time.

    Raises RuntimeError for an answer that is neither 200 nor 503.
    """

    async def inside() -> Load:
        result = Load()
        loop = asyncio.get_running_loop()
        started, cpu = time.perf_counter(), time.process_time()
        end = started + lasting
        asking: list[asyncio.Future[None]] = []
        for _ in range(connections):
            done = loop.create_future()
            asking.append(done)
            one = _Asking(requests, end, result, done)
            await loop.create_connection(one.itself, host, port)
        await asyncio.gather(*asking)
        result.seconds = time.perf_counter() - started
        result.cpu = time.process_time() - cpu
        return result

    return uvloop.run(inside())


class _Asking(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is in."""

    def __init__(
        self, requests: Iterator[bytes], end: float, result: Load, done: asyncio.Future[None]
    ) -> None:
        self._requests, self._end, self._result, self._done = requests, end, result, done
        self._came = bytearray()
        self._whole = 0

    def itself(self) -> _Asking:
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        request = next(self._requests, None) if self._sent < self._end else None
        if request is None:
            self._transport.close()
            self._done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not self._whole:
            head = self._came.find(b"\r\n\r\n")
            if head < 0:
                return
            if not self._came.startswith((_OK, _BUSY)):
                self._done.set_exception(RuntimeError(self._came.decode(errors="replace")))
                self._transport.close()
                return
            at = self._came.index(_LENGTH) + len(_LENGTH)
            self._whole = head + 4 + int(self._came[at : self._came.index(b"\r", at)])
        if len(self._came) >= self._whole:
            if self._came.startswith(_BUSY):
                self._result.refused += 1
            else:
                self._result.latencies.append(time.perf_counter() - self._sent)
                self._result.received += len(self._came)
            self._came.clear()
            self._whole = 0
            self._ask()
