"""A day that fails on the way is left as it was; a day that has landed can be rebuilt."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pytest

from pipeline.lake import engine
from pipeline.lake.consistency import ConsistencyError
from pipeline.lake.store import Lake
from pipeline.timeline import Window
from pipeline.usage import rollup
from pipeline.usage.rollup import rebuild_day
from tests.lake.served import (
    DAY,
    WINDOW,
    Bucket,
    Result,
    digests,
    leftovers,
    publish,
    stand,
    usage_rows,
)
from tests.lake.traffic import in_pages, traffic

Connection = duckdb.DuckDBPyConnection


@pytest.fixture
def altered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Give one of the queries another text, as if it had been broken."""
    real = engine.sql

    def alter(name: str, text: str) -> None:
        def sql(asked: str) -> str:
            return text.format(sql=real(asked)) if asked == name else real(asked)

        monkeypatch.setattr(engine, "sql", sql)

    return alter


BROKEN: dict[str, tuple[str, str]] = {
    "rows are lost on the way": ("rollup", "SELECT * FROM ({sql}) WHERE 1 = 0"),
    "rows come twice": ("usage_1m", "SELECT * FROM ({sql}) UNION ALL FROM ({sql})"),
    "counts turn negative": (
        "rollup",
        "SELECT * REPLACE (-num_operations AS num_operations) FROM ({sql})",
    ),
    "usage moves to another day": (
        "rollup",
        "SELECT * REPLACE (start_time + INTERVAL 1 DAY AS start_time) FROM ({sql})",
    ),
    "a column is named otherwise": ("rollup", "SELECT * RENAME (user_id AS who) FROM ({sql})"),
    "columns change places": ("rollup", "SELECT end_time, * EXCLUDE end_time FROM ({sql})"),
    "a column is of another type": (
        "rollup",
        "SELECT * REPLACE ('many' AS num_operations) FROM ({sql})",
    ),
    "the query is no query": ("rollup", "SELECT nothing"),
    "the query fails half-way": (
        "usage_1m",
        "SELECT * REPLACE (error('half-way') AS user_id) FROM ({sql})",
    ),
}


@pytest.mark.parametrize("loaded_before", [True, False], ids=["again", "first"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_day_that_fails_on_the_way_is_left_as_it_was(
    con: Connection,
    lake: Lake,
    altered: Callable[[str, str], None],
    case: str,
    loaded_before: bool,
) -> None:
    if loaded_before:
        publish(con, lake, [[Bucket(0, (Result(),))]])
    before = stand(lake)
    name, text = BROKEN[case]
    altered(name, text)
    with pytest.raises((ConsistencyError, duckdb.Error, ValueError)):
        publish(con, lake, [[Bucket(0, (Result(), Result("bob"), Result("bob")))]])
    assert stand(lake) == before
    assert leftovers(lake) == []


def test_a_day_that_does_not_add_up_is_refused_with_the_numbers(
    con: Connection, lake: Lake, altered: Callable[[str, str], None]
) -> None:
    altered("rollup", "SELECT * REPLACE (num_operations + 1 AS num_operations) FROM ({sql})")
    with pytest.raises(ConsistencyError, match=r"check_totals.*'num_operations': .*3.*") as refused:
        publish(con, lake, [[Bucket(0, (Result(counts=(1, 2, 3)),))]])
    assert "usage_1h" in str(refused.value)


def test_a_sum_beyond_64_bits_is_refused_never_rounded(con: Connection, lake: Lake) -> None:
    publish(con, lake, [[Bucket(0, (Result(),))]])
    before = stand(lake)
    too_much = (Result(counts=(2**63 - 1, 0, 0)), Result(counts=(1, 0, 0)))
    with pytest.raises(duckdb.ConversionException):
        publish(con, lake, [[Bucket(0, too_much)]])
    assert stand(lake) == before
    assert leftovers(lake) == []


def test_a_failed_day_does_not_stand_in_the_next_ones_way(
    con: Connection,
    lake: Lake,
    altered: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    altered("rollup", "SELECT nothing")
    with pytest.raises(duckdb.Error):
        publish(con, lake, [[Bucket(0, (Result(),))]])
    monkeypatch.undo()
    publish(con, lake, [])
    assert usage_rows(lake, "1m") == []


def test_a_rebuilt_day_is_the_day_that_was_loaded(con: Connection, lake: Lake) -> None:
    published = publish(con, lake, in_pages(traffic(1), 500))
    before = stand(lake)
    assert rebuild_day(con, lake, DAY) == rollup.DayPublished(DAY, WINDOW, published.rows, ())
    assert stand(lake) == before
    for name in ("usage_1m", "usage_1d"):
        lake.path(name, DAY).resolve().unlink()
    assert rebuild_day(con, lake, DAY).changed == ("usage_1m", "usage_1d")
    assert {name: digest for name, (_, digest) in before.items()} == digests(lake)
    assert leftovers(lake) == []


def test_a_rebuilt_day_that_was_open_covers_what_it_covered(con: Connection, lake: Lake) -> None:
    open_day = Window(WINDOW.start, WINDOW.start + 7 * 60)
    publish(con, lake, [[Bucket(0, (Result(),))]], window=open_day)
    assert rebuild_day(con, lake, DAY).window == open_day
    loaded = lake.loaded("usage_1d", DAY)
    assert loaded is not None
    assert loaded.window == open_day


def test_a_day_that_was_never_loaded_cannot_be_rebuilt(con: Connection, lake: Lake) -> None:
    with pytest.raises(FileNotFoundError, match=rf"--start {DAY} --end 2024-03-01"):
        rebuild_day(con, lake, DAY)
    assert stand(lake) == {}


def test_a_rebuild_that_does_not_add_up_leaves_the_day_as_it_was(
    con: Connection, lake: Lake, altered: Callable[[str, str], None]
) -> None:
    publish(con, lake, [[Bucket(0, (Result(),))]])
    before = stand(lake)
    altered("rollup", "SELECT * FROM ({sql}) WHERE 1 = 0")
    with pytest.raises(ConsistencyError):
        rebuild_day(con, lake, DAY)
    assert stand(lake) == before
    assert leftovers(lake) == []
