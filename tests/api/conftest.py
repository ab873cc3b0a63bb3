"""A client whose server is a list of replies, and an event loop whose time costs nothing."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import ApiError, Client, Limits, UsagePage, UsageQuery, get_usage
from pipeline.api.client import Answer

T = TypeVar("T")
KEY = "mka1-planted-Secret_0123456789abcdef"
QUERY = UsageQuery(0, 3_600, "1m", limit=60)
NOW = 1_700_000_000.0


@dataclass
class Asked:
    """What became of one question."""

    answer: Answer[UsagePage] | None = None
    error: ApiError | None = None
    waits: list[float] = field(default_factory=list[float])
    sent: list[httpx.Request] = field(default_factory=list[httpx.Request])
    retries: list[str] = field(default_factory=list[str])

    @property
    def message(self) -> str:
        assert self.error is not None, "it was answered"
        return str(self.error)


@pytest.fixture(scope="session")
def ask() -> Callable[..., Asked]:
    """Ask endpoint 1 once. A reply is keywords of httpx.Response or an exception; the last repeats.

    Waits are noted, not waited; the clock stands at NOW.
    """
    trusting = httpx.create_ssl_context(trust_env=False)

    def ask_once(
        *replies: dict[str, Any] | Exception,
        query: UsageQuery = QUERY,
        base_url: str = "https://api.example",
        key: str = KEY,
        **limits: Any,
    ) -> Asked:
        asked = Asked()

        def serve(request: httpx.Request) -> httpx.Response:
            asked.sent.append(request)
            reply = replies[min(len(asked.sent), len(replies)) - 1]
            if isinstance(reply, Exception):
                raise reply
            return httpx.Response(**{"status_code": 200, **reply})

        async def note(seconds: float) -> None:
            asked.waits.append(seconds)

        async def run() -> None:
            async with Client(
                base_url,
                SecretStr(key),
                Limits(**{"requests_per_second": 10_000.0, **limits}),
                transport=httpx.MockTransport(serve),
                sleep=note,
                on_retry=lambda retry: asked.retries.append(str(retry)),
                now=lambda: NOW,
            ) as client:
                try:
                    asked.answer = await get_usage(client, query)
                except ApiError as error:
                    asked.error = error
                assert client.requests == len(asked.sent)
                assert client.retries == len(asked.retries)
                given = [replies[min(place, len(replies) - 1)] for place in range(len(asked.sent))]
                refused = [
                    it for it in given if isinstance(it, dict) and it.get("status_code") == 429
                ]
                assert client.quota_answers == len(refused)

        with pytest.MonkeyPatch.context() as patch:
            # No reply comes by TLS; to read all authorities for each question takes 13 ms.
            patch.setattr(httpx, "create_ssl_context", lambda **_: trusting)
            asyncio.run(run())
        return asked

    return ask_once


class _InstantSelector(selectors.DefaultSelector):
    """Waits for nothing: time jumps to the moment that the loop would have slept until."""

    time = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.time += timeout or 0.0
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._instant = _InstantSelector()
        super().__init__(self._instant)

    def time(self) -> float:
        return self._instant.time


@pytest.fixture(scope="session")
def in_no_time() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine to its end on a loop where sleeping moves the clock and takes no time."""

    def run(work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            return runner.run(work)

    return run
