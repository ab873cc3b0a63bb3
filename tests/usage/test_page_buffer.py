"""Pages of a walk on disk: every serving is numbered, also of a bucket that holds nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.lake.schemas import RAW_USAGE
from pipeline.lake.store import KEPT_SECONDS
from pipeline.timeline import Window
from pipeline.usage.page_buffer import SERVED_ROWS, SERVINGS, Chunk, PageBuffer
from tests.lake.served import MIDNIGHT, WINDOW, Bucket, Page, Result, served_rows, spool

ONE, TWO = (Result(),), (Result("ada"), Result("bob"))


def servings(taken: PageBuffer) -> list[tuple[int, int]]:
    """Minute of the day and number of each serving."""
    return [
        (int(row["start_time"].timestamp() - MIDNIGHT) // 60, row["serving"])
        for row in taken.servings().to_pylist()
    ]


@pytest.mark.parametrize(
    ("pages", "numbered", "rows"),
    [
        ([], [], 0),
        ([[]], [], 0),
        ([[Bucket(0)]], [(0, 0)], 0),
        ([[Bucket(0, ONE), Bucket(1)]], [(0, 0), (1, 1)], 1),
        ([[Bucket(0, ONE)], [Bucket(1, TWO)]], [(0, 0), (1, 1)], 3),
        ([[Bucket(5, TWO)], [], [Bucket(5)]], [(5, 0), (5, 1)], 2),
        ([[Bucket(5, ONE), Bucket(5, TWO)]], [(5, 0), (5, 1)], 3),
    ],
)
def test_every_serving_is_kept_with_a_number_of_its_own(
    tmp_path: Path, pages: list[Page], numbered: list[tuple[int, int]], rows: int
) -> None:
    taken = spool(tmp_path, pages)
    assert servings(taken) == numbered
    assert taken.servings().schema == SERVINGS
    assert taken.rows == rows


def test_rows_are_kept_as_they_came(tmp_path: Path) -> None:
    odd = (Result(None, "", (None, 0, 2**63 - 1), '{"a":1}'), Result("\0", "漢 ' \" / ,"))
    pages = [[Bucket(1, odd)], [Bucket(0, ONE)]]
    expected = [served_rows(page, serving, MIDNIGHT) for serving, page in enumerate(pages)]
    assert spool(tmp_path, pages).served_rows().equals(pa.concat_tables(expected))


NOON = Window(MIDNIGHT, MIDNIGHT + 12 * 3_600)


def again(
    folder: Path, account: str = "an account", window: Window = WINDOW, now: float = MIDNIGHT
) -> PageBuffer:
    """What a later run finds."""
    return PageBuffer(folder / "spool", account, window, now)


def test_a_later_run_finds_the_parts_that_were_finished_and_asks_for_the_others(
    tmp_path: Path,
) -> None:
    first = spool(tmp_path, [[Bucket(7, TWO), Bucket(8)]], window=NOON)
    with Chunk(first, Window(NOON.end, NOON.end + 60)) as part:
        part.add([NOON.end], served_rows([Bucket(720, ONE)], 0, MIDNIGHT))
    later = again(tmp_path, now=MIDNIGHT + 3_600)
    assert later.gaps() == [Window(NOON.end, WINDOW.end)]
    assert later.rows == 2
    assert servings(later) == [(7, 0), (8, 1)]
    assert later.served_rows().equals(first.served_rows())
    assert later.read_at == MIDNIGHT


@pytest.mark.parametrize(
    "other",
    [
        {"account": "another account"},
        {"now": MIDNIGHT + KEPT_SECONDS + 1},
        {"now": MIDNIGHT - 1},
        {"window": Window(WINDOW.start, WINDOW.start + 3_600)},
    ],
    ids=str,
)
def test_pages_of_another_account_of_long_ago_or_of_more_than_is_asked_are_not_used(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    spool(tmp_path, [[Bucket(0, TWO)]], window=NOON)
    later = again(tmp_path, **other)
    assert later.gaps() == [later.window]
    assert (later.rows, servings(later)) == (0, [])


def test_a_minute_that_two_runs_have_left_counts_once(tmp_path: Path) -> None:
    spool(tmp_path, [[Bucket(7, TWO)]], window=NOON)
    less = again(tmp_path, window=Window(MIDNIGHT, MIDNIGHT + 3_600))
    with Chunk(less, less.window) as part:
        part.add([MIDNIGHT + 7 * 60], served_rows([Bucket(7, ONE)], 0, MIDNIGHT))
        part.finish()
    later = again(tmp_path)
    assert later.rows == later.served_rows().num_rows == 1
    assert servings(later) == [(7, 0)]
    assert later.gaps() == [Window(less.window.end, WINDOW.end)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
@pytest.mark.parametrize("name", ["*.rows.arrow", "*.servings.arrow", "began.json"])
def test_a_part_that_cannot_be_read_is_read_from_the_api_again(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    spool(tmp_path, [[Bucket(0, TWO)]], window=NOON)
    (path,) = (tmp_path / "spool").glob(name)
    damage(path)
    later = again(tmp_path)
    assert later.gaps() == [WINDOW]
    assert (later.rows, servings(later)) == (0, [])


def test_rows_as_served_are_those_of_raw_usage_and_the_number_of_their_serving() -> None:
    assert SERVED_ROWS.names == [*RAW_USAGE.schema.names, "serving"]
    assert [SERVED_ROWS.field(name) for name in RAW_USAGE.schema.names] == list(RAW_USAGE.schema)
