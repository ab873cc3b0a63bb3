"""The emulator without a network, and a hand that changes what it answers on the way.

Belongs here: who answers and what is noted of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

import httpx
from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.emulator import Faults, World
from pipeline.emulator.app import build_app
from pipeline.emulator.faults import FaultPlan
from tests.torture.reading import Answer, Question
from tests.torture.tampering import Body

Tamper = Callable[[int, bytes], Body]
"""What goes over the wire instead of a body, which is that of the n-th answer (from 0)."""

LIMITS: Final = Limits(
    concurrency=1,
    requests_per_second=1e12,
    attempts=3,
    longest_wait=0.0,
    max_bytes=1_000_000,
)
MOST_REQUESTS: Final = 100
"""More than that for a few minutes of usage, and a walk is taken to be without end."""
_CHUNK: Final = 65_536
"""What httpcore reads from a socket at once."""


class _Chunks(httpx.AsyncByteStream):
    """A body that comes in pieces, as from a socket."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _CHUNK):
            yield self._body[start : start + _CHUNK]


@dataclass
class Tampering(httpx.AsyncBaseTransport):
    """Answers from a world, changed on the way; `log` has what was asked and what was served."""

    world: World
    faults: Faults
    tamper: Tamper
    log: list[tuple[Question, Answer]] = field(default_factory=list[tuple[Question, Answer]])

    def __post_init__(self) -> None:
        plan = FaultPlan(self.faults)
        app = build_app(self.world, lambda: plan, lambda: {"key": "secret"})
        self._emulator = httpx.ASGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert len(self.log) < MOST_REQUESTS, "the walk has no end"
        answer = await self._emulator.handle_async_request(request)
        body = await answer.aread()
        changed = self.tamper(len(self.log), body) if answer.status_code == 200 else Body(body)
        plain = changed.plain()
        served = Answer(answer.status_code, plain, len(plain or b"") > LIMITS.max_bytes)
        self.log.append((Question.of(request.url.query), served))
        headers = {} if changed.encoding is None else {"Content-Encoding": changed.encoding}
        return httpx.Response(served.status, headers=headers, stream=_Chunks(changed.wire))

    def connect(self) -> Client:
        """A client that waits for nothing."""
        return Client(
            "http://api.example",
            SecretStr("secret"),
            LIMITS,
            transport=self,
            sleep=_no_wait,
            now=self.world.clock,
        )


async def _no_wait(_: float) -> None:
    pass
