"""Lakes for the tests of the report, loaded once and only read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.emulator import EmulatorServer, Event, ManualClock, Tokens, World, synthetic_world
from pipeline.lake.store import Lake
from pipeline.timeline import DAY, Window, parse_time
from tests.synced import Reader
from tests.truth import load

START = parse_time("2024-03-18")
"""Two weeks later, clocks in Europe are moved; one week before, those in America were."""
DAYS = 24


@pytest.fixture(scope="session")
def world() -> World:
    """Traffic over two weeks and a half, in which clocks are moved."""
    return synthetic_world(start=START, days=DAYS, users=14, conversations_per_user_day=2.0)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, world: World) -> Lake:
    """All of it, loaded."""
    lake = Lake(tmp_path_factory.mktemp("home") / "lake")
    with EmulatorServer(world) as server:
        load(server, lake, Window(START, START + DAYS * DAY).days)
    return lake


@dataclass(frozen=True)
class Answered:
    """A response as the test made it: Unix seconds, whose it is, and what it came to."""

    at: int
    user: str | None
    key: str
    model: str
    status: str
    tokens: Tokens


FIRST_ANSWER = parse_time("2024-03-24")
ANSWERED_DAYS = 8
MODELS = ("large", "small", "größte <b>&", "small")
UNLISTED = "key_elsewhere"
"""A key with usage, of which no secret is here."""


def answered() -> list[Answered]:
    """Eight days, on the last of which clocks are moved."""
    found: list[Answered] = []
    for number in range(100):
        last = ANSWERED_DAYS - 1
        day = last - number**2 * last // 100**2 if number % 2 else number % ANSWERED_DAYS
        tokens = Tokens(
            input=1_000 + 7 * number,
            cached=13 * number if number % 5 else 0,
            output=3 * number,
            reasoning=number,
        )
        found.append(
            Answered(
                at=FIRST_ANSWER + day * DAY + number * 571 % DAY,
                user=("ada", "bob", None, "cy", "ada")[number % 5],
                key=("key_web", "key_jobs")[number % 3 == 0],
                model=MODELS[number % 4],
                status=("completed", "completed", "failed", "completed", "incomplete")[number % 5]
                if number % 7
                else "completed",
                tokens=tokens,
            )
        )
    return sorted(found, key=lambda one: one.at)


@pytest.fixture(scope="session")
def responses() -> list[Answered]:
    """What the emulator lists."""
    return answered()


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory, responses: list[Answered]) -> Lake:
    """Usage of the eight days, and the responses of two of three keys."""
    end = FIRST_ANSWER + ANSWERED_DAYS * DAY
    world = World(keys=("key_web", "key_jobs"), clock=ManualClock(end + 30 * DAY))
    for one in responses:
        owner = (one.key, one.user)
        world.add_response(
            None, one.at, tokens=one.tokens, status=one.status, model=one.model, owner=owner
        )
    world.log(Event(end - 40 * 3_600, "ada", UNLISTED, 0, 0, 50))
    lake = Lake(tmp_path_factory.mktemp("home") / "lake")
    with EmulatorServer(world) as server:
        reader = Reader(server, lake, list(Window(FIRST_ANSWER, end).days))
        reader.load()
        reader.sync()
    return lake
