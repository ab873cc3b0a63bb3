"""One question to any endpoint, answered from a list of replies.

Belongs here: the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import Client, Limits

Reply = dict[str, Any] | Exception

_TRUSTING = httpx.create_ssl_context(trust_env=False)


def exchange(
    call: Callable[[Client], Awaitable[Any]], *replies: Reply, **limits: Any
) -> tuple[Any, list[httpx.Request]]:
    """What `call` returns or raises, and the requests it sent. The last reply repeats."""
    sent: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        reply = replies[min(len(sent), len(replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(**{"status_code": 200, **reply})

    async def no_wait(_: float) -> None:
        pass

    async def run() -> Any:
        async with Client(
            "https://api.example/gate",
            SecretStr("mka1-key-0123456789"),
            Limits(**{"requests_per_second": 10_000.0, **limits}),
            transport=httpx.MockTransport(serve),
            sleep=no_wait,
        ) as client:
            try:
                return await call(client)
            except Exception as error:  # noqa: BLE001  # it is what the test looks at
                return error

    with pytest.MonkeyPatch.context() as patch:
        # No reply comes by TLS; to read all authorities for each question takes 13 ms.
        patch.setattr(httpx, "create_ssl_context", lambda **_: _TRUSTING)
        return asyncio.run(run()), sent
