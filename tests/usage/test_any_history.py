"""Whatever was restated and run before: a run by totals makes the files of a full reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lake.schemas import LEDGER_DATASETS, USAGE_DATASETS
from pipeline.lake.store import Lake
from tests.usage.traffic import (
    ASKED,
    KEYS,
    USERS,
    Restated,
    Run,
    Traffic,
    copied,
    fresh,
    load,
    of_day,
)

restatements = st.lists(
    st.builds(
        Restated,
        st.integers(0, 2 * 1_440 - 1),
        st.sampled_from(USERS),
        st.sampled_from(KEYS),
        st.booleans(),
    ),
    max_size=6,
)
histories = st.lists(
    st.builds(
        Run,
        restatements,
        st.integers(0, 900),
        st.sampled_from(["full", "totals", "days"]),
        st.none() | st.integers(1, 8),
    ),
    max_size=2,
)


def require_same(one: Lake, other: Lake, *, resumed: bool) -> None:
    """All that two lakes say is the same, to the byte but for what says when."""
    when = {
        "raw_usage": ["fetched_at"],  # an hour that was kept was served before
        "coverage": ["status"],  # of what was kept it is not proven by user and key
        "revisions": ["seen_at"] if resumed else [],
    }
    if resumed:
        when["coverage"].append("fetched_at")
    for day in ASKED:
        for name in (*USAGE_DATASETS, *LEDGER_DATASETS):
            if name in when:
                tables = [of_day(lake, name, day).drop(when[name]) for lake in (one, other)]
                assert tables[0].equals(tables[1]), (name, day)
            else:
                paths = [lake.path(name, day) for lake in (one, other)]
                assert paths[0].read_bytes() == paths[1].read_bytes(), (name, day)


def require_equal_to_a_full_reading(
    loaded_open: Lake, place: Path, history: Sequence[Run], last: Sequence[Restated], sparse: bool
) -> None:
    lake = copied(loaded_open, place / "lake")
    traffic = Traffic(fresh(), sparse)
    for one in history:
        traffic.run(lake, one)
    traffic.restate(last)
    resumed = any((lake.root / ".partial").glob("*"))
    other = copied(lake, place / "other")
    load(traffic.api, lake, traffic.world, "totals")
    load(traffic.api, other, traffic.world, "full")
    require_same(lake, other, resumed=resumed)


@hypothesis.settings(max_examples=2, deadline=None)
@given(histories, restatements, st.booleans())
def test_a_run_by_totals_makes_the_files_of_a_full_reading(
    loaded_open: Lake,
    tmp_path_factory: pytest.TempPathFactory,
    history: Sequence[Run],
    last: Sequence[Restated],
    sparse: bool,
) -> None:
    place = tmp_path_factory.mktemp("history")
    require_equal_to_a_full_reading(loaded_open, place, history, last, sparse)


@pytest.mark.slow
@hypothesis.settings(max_examples=5, deadline=None)
@given(histories, restatements, st.booleans())
def test_so_it_does_after_many_histories(
    loaded_open: Lake,
    tmp_path_factory: pytest.TempPathFactory,
    history: Sequence[Run],
    last: Sequence[Restated],
    sparse: bool,
) -> None:
    place = tmp_path_factory.mktemp("history")
    require_equal_to_a_full_reading(loaded_open, place, history, last, sparse)
