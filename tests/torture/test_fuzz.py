"""Whatever a body says, what is published is what it says by the rules, or nothing is.

Each case changes the answers to some questions of an otherwise good day of a few minutes: the first
answer, a later one, or all from one on; once, so that a client that asks again is told the truth,
or every time. What was served is then read a second time, in plain Python (`reading`), and the two
readings must agree: on every row of every minute, or that nothing can be believed.

One case in ten is loaded by `load_days` into a lake, and looked at in raw_usage and at every width.
The others end at the walk, `walk_usage` over `get_usage` and a real client: loading takes thirty
times as long, and adds nothing to how a body is read. A case follows from its number alone, so
`outcome(1234)` plays case 1234 once more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache, partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow.parquet as pq
import pytest

from pipeline.api import ApiError, MalformedBody, UsageQuery, get_usage
from pipeline.api.usage import decode_page
from pipeline.api.usage_walk import walk_usage
from pipeline.emulator import START_2024, Event, Faults, ManualClock, World, trace_world
from pipeline.lake.store import Lake
from pipeline.timeline import SECONDS, WIDTHS
from pipeline.usage.load import LoadError, load_days
from tests.torture.conftest import Figures
from tests.torture.reading import LARGEST, Reading, Row, added_up, canonical_text, sort
from tests.torture.serving import LIMITS, Tampering
from tests.torture.tampering import ALL, Body, tampered
from tests.truth import TRACE, digests, published

DAY: Final = date(2024, 1, 1)
MINUTES: Final = 8
SHARES: Final = 4
"""Tests that the cases are dealt out to."""
IN_A_LAKE: Final = 10
"""One case in so many is loaded into a lake."""
FAULTS: Final = (
    Faults(),
    Faults(clamp_limit=3),
    Faults(clamp_limit=3, sparse=True),
    Faults(clamp_limit=3, split_rows=True, extra_fields={"org_id": None, "weight": 0.10}),
    Faults(clamp_limit=3, duplicate_bucket=True, restate_between=True),
    Faults(clamp_limit=1),
    Faults(clamp_limit=2, expire_cursors_every=2),
)
USERS: Final = (None, "u1", "u2", "käthe 漢字", 'o"b', "")


@cache
def worlds() -> list[World]:
    """The first minutes of a few days, one of them that of the real trace where it is there."""
    made = []
    for seed in range(5):
        random = Random(seed)
        world = World(keys=("key",), clock=ManualClock(START_2024 + 60 * MINUTES))
        for _ in range(random.choice((4, 12, 25))):
            at = START_2024 + random.randrange(60 * MINUTES)
            key = random.choice((None, "key", "key_2"))
            counts = (random.randrange(3), random.randrange(9), 1 + random.randrange(99))
            world.log(Event(at, random.choice(USERS), key, *counts))
        made.append(world)
    if TRACE.exists():
        made.append(trace_world(TRACE, clock=ManualClock(START_2024 + 60 * MINUTES)))
    return made


class Case:
    """One case: a world, what is odd about its pages, and which answers are changed and how."""

    def __init__(self, number: int) -> None:
        random = Random(f"case {number}")
        self.name = ALL[number % len(ALL)]
        self.first = random.choice((0, 0, 0, 1, 1, 2, 3))
        self.always = random.random() < 0.5
        world = random.choice(worlds())
        self._seed = f"change {number}"
        self.transport = Tampering(world, random.choice(FAULTS), self._tamper)
        self.reading = Reading(START_2024, START_2024 + 60 * MINUTES, LIMITS.attempts)

    def _tamper(self, number: int, body: bytes) -> Body:
        if number < self.first or (number > self.first and not self.always):
            return Body(body)
        return tampered(self.name, Random(f"{self._seed} {number}"), body)

    def read(self) -> None:
        """Read what was served, once all was."""
        self.reading.take(self.transport.log)

    def refused(self, error: Exception) -> str:
        """That nothing is to be believed must be so, or may be."""
        if self.reading.must_fail or self.reading.may_fail:
            return "refused"
        assert self.reading.no_json, f"nothing was wrong, and it failed with {error}"
        return "given up early"

    def taken(self, there: Mapping[int, list[Row]]) -> str:
        """What was taken in must be what was served."""
        assert not self.reading.must_fail, f"it was taken in, though {self.reading.must_fail}"
        expected = self.reading.rows()
        differ = {
            start: (there.get(start), expected.get(start))
            for start in there.keys() | expected.keys()
            if there.get(start) != expected.get(start)
        }
        assert not differ, f"taken in and served differ: {differ}"
        return "exact"


async def walked(case: Case) -> dict[int, list[Row]]:
    """The rows of a walk, the later serving of a minute in the place of the earlier."""
    window = (case.reading.start, case.reading.end)
    query = UsageQuery(*window, "1m", group_by=("user_id", "api_key_id"))
    found: dict[int, list[Row]] = {}
    async with case.transport.connect() as client:
        async for page in walk_usage(partial(get_usage, client), query):
            extras = iter(page.extras or [None] * sum(len(one.results) for one in page.buckets))
            for bucket in page.buckets:
                found[bucket.start_time] = [
                    (
                        row.user_id,
                        row.api_key_id,
                        row.num_conversations_created,
                        row.num_items_added,
                        row.num_operations,
                        canonical_text(next(extras)),
                    )
                    for row in bucket.results
                ]
    return {start: sort(rows) for start, rows in found.items() if rows}


def by_walking(case: Case) -> str:
    """How a case ends at the walk."""
    try:
        found = asyncio.run(walked(case))
    except ApiError as error:
        case.read()
        return case.refused(error)
    case.read()
    return case.taken(found)


def by_loading(case: Case) -> str:
    """How a case ends in a lake: every row of it and every sum at every width is looked at."""
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        now = case.transport.world.clock
        try:
            load_days(case.transport.connect, lake, [DAY], now=now)
        except LoadError as error:
            failed: LoadError | None = error
        else:
            failed = None
        case.read()
        if failed is not None:
            assert digests(lake.root) == {}, "it failed, and something is published"
            assert not list((lake.root / ".staging").glob("*/"))
            assert str(failed).startswith("2024-01-01: "), f"the message is {failed}"
            return "refused" if too_much(case.reading) else case.refused(failed)
        for width in WIDTHS:
            rows = published(lake, width)
            sums = {row[:3]: row[3:] for row in rows}
            assert len(sums) == len(rows), "a bucket, user and key twice"
            expected = added_up(case.reading.buckets, SECONDS[width])
            assert sums == expected, f"at {width}: {sums.items() ^ expected.items()}"
        return case.taken(raw_rows(lake))


def too_much(reading: Reading) -> bool:
    """Whether a day adds up to more than a table holds."""
    sums = added_up(reading.buckets, SECONDS["1d"])
    by_measure = zip(*sums.values(), strict=True)
    return any(sum(count or 0 for count in counts) > LARGEST for counts in by_measure)


def raw_rows(lake: Lake) -> dict[int, list[Row]]:
    """The rows of raw_usage by minute."""
    found: dict[int, list[Row]] = {}
    names = ("user_id", "api_key_id", *("num_conversations_created", "num_items_added"))
    for row in pq.read_table(lake.path("raw_usage", DAY)).to_pylist():
        start = int(row["start_time"].timestamp())
        assert int(row["end_time"].timestamp()) == start + 60
        user, key, created, added = (row[name] for name in names)
        extra = canonical_text(row["extra"])
        found.setdefault(start, []).append(
            (user, key, created, added, row["num_operations"], extra)
        )
    return {start: sort(rows) for start, rows in found.items()}


def outcome(number: int, end: Callable[[Case], str] | None = None) -> Counter[str]:
    """How a case ends. AssertionError where the two readings differ."""
    case = Case(number)
    if end is None:
        # Not by the number: which change is made follows from that.
        in_lake = number // len(ALL) % IN_A_LAKE == 0
        end = by_loading if in_lake else by_walking
    ended = end(case)
    place = "loaded" if end is by_loading else "walked"
    return Counter({"cases": 1, ended: 1, place: 1, "requests": len(case.transport.log)})


@pytest.mark.parametrize("share", range(SHARES))
def test_what_is_published_of_changed_bodies_is_what_they_say_or_nothing(
    share: int, long: bool, figures: Figures
) -> None:
    tally: Counter[str] = Counter()
    wrong: list[str] = []
    cases = 12_000 if long else 800
    for number in range(cases * share // SHARES, cases * (share + 1) // SHARES):
        case = f"outcome({number}), {ALL[number % len(ALL)]}"
        try:
            tally += outcome(number)
        except AssertionError as error:
            tally.update({"cases": 1, "wrong": 1})
            wrong.append(f"{case}: {error!s:.1000}")
        except Exception as error:
            error.add_note(case)
            raise
    columns = ("cases", "walked", "loaded", "exact", "refused", "given up early", "wrong")
    figures(
        "fuzzed bodies of usage",
        **{column.replace(" ", "_"): tally[column] for column in columns},
        requests=tally["requests"],
    )
    assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("number", [9957])
def test_what_was_wrong_once_is_not_wrong_again(number: int) -> None:
    assert outcome(number)["wrong"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {}, "has_more": fal',
        b'{"data": [{"object": "bucket", "end_time": 60, "results": []}], "has_more": false',
        b'{"data": [7], "has_more": false, "next_page": nul\x00}',
    ],
)
def test_a_body_that_is_no_json_is_asked_for_again_whatever_stands_before_the_flaw(
    body: bytes,
) -> None:
    with pytest.raises(MalformedBody):
        decode_page(body)
