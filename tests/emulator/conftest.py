"""Servers and HTTP clients for the emulator's own tests, all on the loopback interface."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from pipeline.emulator import EmulatorServer, Faults, ManualClock, World, synthetic_world

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]


@pytest.fixture(scope="session")
def traffic() -> World:
    """Two days of traffic. Tests only read it."""
    return synthetic_world(days=2, users=20)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that stop when the test ends."""
    with ExitStack() as stack:

        def start(world: World | None = None, faults: Faults | None = None) -> EmulatorServer:
            return stack.enter_context(EmulatorServer(world, faults))

        yield start


@pytest.fixture
def client() -> Iterator[Client]:
    """HTTP clients that carry the server's first key, without retries."""
    with ExitStack() as stack:

        def connect(server: EmulatorServer) -> httpx.Client:
            headers = {"Authorization": f"Bearer {server.api_key}"}
            # Loading certificates takes longer than most of these tests.
            made = httpx.Client(
                base_url=f"{server.base_url}/api/v1/llm",
                headers=headers,
                trust_env=False,
                verify=False,
            )
            return stack.enter_context(made)

        yield connect


@pytest.fixture
def walk_usage() -> Callable[..., list[list[dict[str, Any]]]]:
    """Follow the cursors of a usage endpoint to the end; one list of buckets per page."""

    def walk(
        http: httpx.Client, endpoint: str = "conversations", **params: Any
    ) -> list[list[dict[str, Any]]]:
        pages: list[list[dict[str, Any]]] = []
        page: dict[str, str] = {}
        while True:
            answer = http.get(f"/usage/{endpoint}", params={**params, **page})
            assert answer.status_code == 200, answer.text
            body = answer.json()
            pages.append(body["data"])
            assert body["has_more"] == (body["next_page"] is not None)
            if not body["has_more"]:
                return pages
            page = {"page": body["next_page"]}

    return walk


@pytest.fixture
def walk() -> Callable[..., list[str]]:
    """Follow `after` from page to page to the end, as a plain client does; the ids in order."""

    def follow(http: httpx.Client, path: str, **params: Any) -> list[str]:
        ids: list[str] = []
        while True:
            answer = http.get(path, params=params)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            ids += [row["id"] for row in body["data"]]
            if not body["has_more"]:
                return ids
            params["after"] = body["last_id"]

    return follow


@pytest.fixture
def many() -> Callable[[int], World]:
    """Worlds of so many conversations of one user, made a second apart, seen at 10,000."""

    def build(count: int) -> World:
        world = World(clock=ManualClock(10_000))
        for at in range(count):
            world.create_conversation(at, None, "key_web", {"n": str(at % 3)})
        return world

    return build
