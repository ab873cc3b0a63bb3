"""Pages that are counted by one query are those that are counted one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake import engine
from pipeline.lake.buckets import buckets
from pipeline.lake.schemas import USAGE
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.query import together
from pipeline.query.buckets import PageQuery, answer
from pipeline.query.page import Page, count
from pipeline.serve.answers import Answers
from pipeline.timeline import DAY, Width, Window, day_of, parse_time
from tests.truth import load

START = parse_time("2024-01-01")
DAYS = 3
GROUPS = ((), ("user_id",), ("api_key_id",), ("user_id", "api_key_id"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three days, of which the second is not loaded."""
    found = Lake(tmp_path_factory.mktemp("together") / "lake")
    with EmulatorServer(synthetic_world(days=DAYS, users=12)) as api:
        load(api, found, [day_of(START), day_of(START + 2 * DAY)])
    return found


@pytest.fixture
def con(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(engine.connect(lake)) as con:
        yield con


@st.composite
def pages(draw: st.DrawFn) -> tuple[Width, Window, tuple[str, ...], tuple[str, ...]]:
    """Width, window, groups and users of a page."""
    start = START + 3_600 * draw(st.integers(0, 24 * DAYS - 1))
    window = Window(start, start + 3_600 * draw(st.integers(1, 30)))
    users = draw(st.lists(st.sampled_from(["user_0001", "user_0002", "nobody"]), max_size=3))
    return "1h", window, draw(st.sampled_from(GROUPS)), tuple(users)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(pages(), min_size=1, max_size=8))
def test_one_query_counts_many_pages_as_many_queries_do(
    lake: Lake, con: duckdb.DuckDBPyConnection, asked: list[Any]
) -> None:
    snapshot = Snapshot(lake)
    found: list[together._Asked] = []
    alone = []
    for width, window, groups, users in asked:
        page = Page(buckets(con, window, width, "UTC"), True, groups, users, None)
        days = window.among(list(snapshot.versions))
        one = together._asked(snapshot, page, days)
        assert one is not None
        found.append(one)
        alone.append(list(count(con, snapshot, page, days)))
    together._count(con, found)
    assert [one.rows for one in found] == alone


@pytest.mark.parametrize("fails", [False, True])
def test_pages_that_are_asked_for_at_once_are_those_that_are_asked_for_alone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def out_of_memory(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error")

    if fails:
        monkeypatch.setattr(together, "_count", out_of_memory)
    query = PageQuery(START, START + DAY, "1h", group_by=("user_id",))
    asked = [replace(query, limit=limit) for limit in range(1, 25)]

    async def at_once() -> list[bytes]:
        answers = Answers(lake)
        try:
            found = await asyncio.gather(*(answers.page(one) for one in asked))
        finally:
            answers.close()
        return [body.content for body in found]

    assert asyncio.run(at_once()) == [b"".join(answer(lake, one).text) for one in asked]


def test_pages_of_two_versions_of_a_day_are_never_counted_together() -> None:
    dataset = USAGE["1h"]
    page = Page([Window(START, START + 3_600)], True, (), (), None)

    def of(**days: Path | None) -> together._Asked:
        files = {date(2024, 1, int(name[1:])): path for name, path in days.items()}
        return together._Asked(page, dataset, files)

    counter, old = together.Together(), Path("000001/usage_1h.parquet")
    new = Path("000002/usage_1h.parquet")
    first, other, none = of(d1=old), of(d1=new), of(d1=None)
    same = [of(d1=old, d2=new), of(d2=new), of(d1=old)]
    counter._waiting = [other, first, none, *same]
    assert counter._take(first) == [first, *same]
    assert counter._waiting == [other, none]
    assert counter._take(other) == [other]
    assert counter._waiting == [none]
