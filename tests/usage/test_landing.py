"""What was served, in order: the latest serving of each bucket, whatever else was served."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.lake.schemas import RAW_USAGE
from pipeline.timeline import Window
from pipeline.usage import landing
from pipeline.usage.landing import Landed, landed
from tests.lake.served import (
    MIDNIGHT,
    WINDOW,
    Bucket,
    Page,
    Result,
    served_rows,
    spool,
    temporary,
)

ids = st.none() | st.sampled_from(["", "a", "a\0", "A", "é", "e\u0301"]) | st.text(max_size=3)
counts = st.none() | st.integers(0, 2) | st.integers(0, 2**63 - 1)
extras = st.none() | st.sampled_from(['{"x":1}', "{}"])
results = st.builds(Result, ids, ids, st.tuples(counts, counts, counts), extras)
buckets = st.builds(
    Bucket, st.sampled_from([0, 59, 60, 1_439]), st.lists(results, max_size=5).map(tuple)
)
pages = st.lists(st.lists(buckets, max_size=5), max_size=5)

BY_HAND = Result("ada", "key", (1, 2, 3))
SECOND = Result("ada", "key", (1, 2, None))


def by_hand(served: list[Page]) -> pa.Table:
    """The rows of the latest servings, sorted in Python: NULL first, text by its bytes."""
    latest = {bucket.start: bucket for page in served for bucket in page}
    rows = served_rows(list(latest.values()), 0, MIDNIGHT).drop_columns("serving").to_pylist()

    def place(row: dict[str, object]) -> list[tuple[object, ...]]:
        return [
            () if value is None else (value.encode() if isinstance(value, str) else value,)
            for value in row.values()
        ]

    return pa.Table.from_pylist(sorted(rows, key=place), schema=RAW_USAGE.schema)


def distinct(part: Landed) -> bool:
    """Whether no minute, user and key has two rows."""
    groups = part.rows.select(["start_time", "user_id", "api_key_id"]).to_pylist()
    return len({tuple(group.values()) for group in groups}) == len(groups)


@settings(max_examples=30)
@given(served=pages)
@example(served=[])
@example(served=[[Bucket(7, (BY_HAND, SECOND, BY_HAND))]])
@example(served=[[Bucket(7, (BY_HAND,))], [Bucket(7)]])
@example(served=[[Bucket(60, (BY_HAND, Result(None), Result(None, None))), Bucket(59, (SECOND,))]])
def test_rows_are_those_of_the_latest_servings_sorted_by_all_columns(served: list[Page]) -> None:
    truth = by_hand(served)
    with temporary() as folder:
        taken = spool(Path(folder), served)
        for held in (landing.HELD, 0):  # the day as a whole, and hour by hour
            with patch.object(landing, "HELD", held):
                parts = list(landed(taken))
            assert pa.concat_tables([part.rows for part in parts]).equals(truth)
            assert [part.distinct for part in parts] == [distinct(part) for part in parts]


def test_a_large_day_is_landed_hour_by_hour_and_maps_the_chunks_of_that_hour_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "HELD", 2)
    open_day = Window(WINDOW.start, WINDOW.start + 3 * 3_600)
    taken = spool(
        tmp_path, [[Bucket(minute, (Result(),)) for minute in (0, 59, 60)]], window=open_day
    )
    assert [part.rows.num_rows for part in landed(taken)] == [2, 1, 0]
    assert taken.served_rows(Window(open_day.end, WINDOW.end)).num_rows == 0
