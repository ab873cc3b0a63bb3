"""An API whose answers are bent on their way: the emulator behind a transport that changes pages.

Belongs here: the transport. What is bent, the tests say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.emulator import Faults, World
from pipeline.emulator.app import build_app
from pipeline.emulator.faults import FaultPlan
from pipeline.emulator.server import secret_of
from tests.truth import FAST

Page = dict[str, Any]
Params = dict[str, list[str]]
Bend = Callable[[Params, Page], Page]
"""From a question's parameters and its honest page to the page that is served."""


class BentApi(httpx.AsyncBaseTransport):
    """The endpoints over `world`; every 200 goes through `bend`, which may be set anew.

    `asked` has the parameters of each request. `date` is what answers say the time is, if anything.
    """

    def __init__(self, world: World, bend: Bend = lambda _, page: page) -> None:
        self.bend = bend
        self.asked: list[Params] = []
        self.date: str | None = None
        self._secrets = {key: secret_of(key) for key in world.keys}
        plan = FaultPlan(Faults())
        app = build_app(world, lambda: plan, lambda: self._secrets)
        self._honest = httpx.ASGITransport(app)

    def connect(self, now: Callable[[], float] = time.time) -> Client:
        """A client of it, whose clock is `now`."""
        key = SecretStr(next(iter(self._secrets.values())))
        return Client("http://127.0.0.1", key, FAST, transport=self, now=now)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        params: Params = {}
        for name, value in request.url.params.multi_items():
            params.setdefault(name, []).append(value)
        self.asked.append(params)
        answer = await self._honest.handle_async_request(request)
        body = await answer.aread()
        headers = {"Date": self.date} if self.date else {}
        if answer.status_code != 200:
            return httpx.Response(answer.status_code, content=body, headers=headers)
        bent = self.bend(params, json.loads(body))
        return httpx.Response(200, content=json.dumps(bent).encode(), headers=headers)
