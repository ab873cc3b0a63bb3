"""Under faults, what a sync lands of conversations, items and responses is right, and what it could
not read it says."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from pipeline.conversations.sync import SyncError
from pipeline.emulator import (
    DEFAULT_KEYS,
    FAULT_KINDS,
    START_2024,
    EmulatorServer,
    Faults,
    ManualClock,
    World,
)
from pipeline.lake.store import Lake
from tests.synced import FAST, Reader
from tests.torture.conftest import Figures

DAY: Final = date(2024, 1, 1)
RATE: Final = 0.1
REASON: Final = (
    "a quota of this key is spent|brought 50[0234]: |brought no whole answer: |not whole JSON"
)
FAULTS: Final[dict[str, Faults]] = {
    **{kind: Faults(rates={kind: RATE}) for kind in FAULT_KINDS},
    "all at once": Faults(
        rates=dict.fromkeys(FAULT_KINDS, RATE / len(FAULT_KINDS)), touch_rate=RATE
    ),
}


Rows = dict[str, set[tuple[Any, ...]]]
"""By dataset: what tells a row, and what must be right about it."""


def talkative(seed: int) -> World:
    """A day of conversations of a few users, every item of them from a response.

    Even seeds have one key, so that one request goes after the other; odd ones have three.
    """
    random = Random(seed)
    world = World(
        keys=DEFAULT_KEYS[: 1 + seed % 2 * 2], clock=ManualClock(START_2024 + 30 * 86_400)
    )
    for _ in range(25):
        at = START_2024 + random.randrange(80_000)
        user = random.choice([None, "u1", "u2", "käthe 漢字"])
        name = world.create_conversation(at, user, random.choice(world.keys))
        for turn in range(random.randrange(4)):
            said = [{"type": "message", "role": role, "content": "x"} for role in ("user", "ai")]
            world.add_response(name, at + 60 * turn, said)
    return world


def there(world: World) -> Rows:
    """What the world would have landed, by dataset."""
    conversations, responses = world.all_conversations(), world.all_responses()
    made_at = {response.id: response.created_at for response in responses}
    return {
        "conversations": {(one.id, one.created_at, *one.owner) for one in conversations},
        "responses": {
            (one.id, one.conversation_id, one.created_at, one.status, *one.owner)
            for one in responses
        },
        "items": {
            (item.id, one.id, item.response_id, made_at[item.response_id or ""])
            for one in conversations
            for item in one.items
        },
    }


def landed(reader: Reader) -> Rows:
    """The same of what is landed."""
    columns = {
        "conversations": ("id", "created_at", "api_key_id", "user_id"),
        "responses": (
            *("id", "conversation_id", "created_at", "status"),
            *("api_key_id", "user_id"),
        ),
        "items": ("id", "conversation_id", "response_id", "added_at"),
    }
    return {
        dataset: {
            tuple(row[name].timestamp() if name.endswith("_at") else row[name] for name in names)
            for row in reader.rows(dataset)
        }
        for dataset, names in columns.items()
    }


def check(error: SyncError, reader: Reader, expected: Rows) -> None:
    """What was landed all the same is right, and the error says what is missing and why."""
    *parts, kept = str(error).splitlines()
    for part in parts:
        assert re.match(rf"key (\w+): GET .+({REASON})", part), f"the message is {error}"
    assert kept == "The other parts were read and are kept."
    for dataset, rows in landed(reader).items():
        assert rows <= expected[dataset], f"{dataset}: {rows - expected[dataset]}"
    assert reader.differences() == {}, "what could not be read is held against nobody"


def synced(reader: Reader, expected: Rows) -> str:
    """Sync under the faults in force and, if it failed, once more without; how the first ended."""
    ended = "exact"
    try:
        reader.sync()
    except SyncError as error:
        ended = "failed clearly"
        check(error, reader, expected)
        reader.server.faults = Faults()
        reader.sync()
    for dataset, rows in landed(reader).items():
        assert rows == expected[dataset], f"{dataset}: {rows ^ expected[dataset]}"
    assert reader.differences() == {}
    return ended


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The lake with the usage of the world of a seed; tests sync over a copy of it."""

    @cache
    def of(seed: int) -> Path:
        folder = tmp_path_factory.mktemp("loaded") / "lake"
        with EmulatorServer(talkative(seed)) as server:
            Reader(server, Lake(folder), [DAY]).load()
        return folder

    return of


@pytest.mark.parametrize("name", FAULTS)
def test_a_sync_under_faults_lands_what_is_right_and_says_what_is_missing(
    name: str, long: bool, figures: Figures, loaded: Callable[[int], Path]
) -> None:
    tally: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(40) if long else (0, 1, 3, 6):
        world = talkative(seed)
        with EmulatorServer(world) as server, TemporaryDirectory() as folder:
            # One try is all that some have. Four outlast what the emulator does in a row, unless
            # that counts other keys' requests in: they look the same but for the key.
            limits = replace(
                FAST, attempts=1 + seed // 2 % 4, concurrency=1, requests_per_second=1e12
            )
            shutil.copytree(loaded(seed), Path(folder) / "lake", symlinks=True)
            reader = Reader(server, Lake(Path(folder) / "lake"), [DAY], limits=limits)
            server.faults = replace(FAULTS[name], seed=seed)
            before = len(server.requests)
            try:
                ended = synced(reader, there(world))
                patient = limits.attempts > Faults().max_consecutive and len(world.keys) == 1
                assert ended == "exact" or not patient
            except AssertionError as error:
                ended = "wrong"
                wrong.append(f"seed {seed}: {error}")
            tally.update({"runs": 1, ended: 1, "requests": len(server.requests) - before})
    columns = ("runs", "exact", "failed clearly", "wrong", "requests")
    figures(
        f"faults of listings, {name}",
        **{column.replace(" ", "_"): tally[column] for column in columns},
    )
    assert not wrong, "\n".join(wrong[:5])
    assert tally["failed clearly"], "faults that fail nothing show nothing"
