"""From the API's pages to published tables: what they hold is what was used, whatever happens.

The truth is the emulator's own count of its own event log, in plain Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.emulator import EmulatorServer, Event, Faults, World, synthetic_world, trace_world
from pipeline.lake.store import Lake
from pipeline.query.buckets import PageQuery, answer
from pipeline.timeline import WIDTHS, Width, day_range, day_window
from pipeline.usage.load import LoadError
from tests.truth import FAST, TRACE, digests, load, published, reported

DAYS = list(day_range(date(2024, 1, 1), date(2024, 1, 2)))
GROUPS = [(), ("user_id",), ("api_key_id",), ("user_id", "api_key_id")]

FAULTS = {
    "none": Faults(),
    "rate limited": Faults(rates={"rate_limited": 0.3}),
    "rate limited, Retry-After in seconds": Faults(
        rates={"rate_limited": 0.3}, retry_after="seconds"
    ),
    "rate limited, Retry-After as a date": Faults(rates={"rate_limited": 0.3}, retry_after="date"),
    "server errors": Faults(rates={"server_error": 0.3}),
    "connections refused": Faults(rates={"refused": 0.3}),
    "connections reset in mid-body": Faults(rates={"reset": 0.3}),
    "bodies cut off": Faults(rates={"truncated": 0.3}),
    "bodies that are not JSON": Faults(rates={"not_json": 0.3}),
    "sparse buckets": Faults(sparse=True),
    "a clamped limit": Faults(clamp_limit=17),
    "a clamped limit and sparse buckets": Faults(clamp_limit=17, sparse=True),
    "expired cursors": Faults(clamp_limit=50, expire_cursors_every=3),
    "buckets served twice": Faults(clamp_limit=50, duplicate_bucket=True),
    "buckets served twice, restated in between": Faults(
        clamp_limit=50, duplicate_bucket=True, restate_between=True
    ),
    "rows split": Faults(split_rows=True),
    "unknown fields": Faults(extra_fields={"org_id": "org_1", "weight": 1.5, "note": None}),
    "all at once": Faults(
        rates=dict.fromkeys(
            ("rate_limited", "server_error", "refused", "reset", "truncated", "not_json"), 0.05
        ),
        sparse=True,
        clamp_limit=100,
        expire_cursors_every=5,
        duplicate_bucket=True,
    ),
}


@pytest.fixture(scope="module")
def trace() -> Iterator[EmulatorServer]:
    """An emulator that replays the hour of real traffic."""
    if not TRACE.exists():
        pytest.skip("the trace of real traffic (../shared/data) is not beside this checkout")
    with EmulatorServer(trace_world(TRACE)) as server:
        yield server


@pytest.fixture(scope="module")
def replayed(trace: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake that the replayed trace was loaded into."""
    lake = Lake(tmp_path_factory.mktemp("trace") / "lake")
    load(trace, lake, DAYS)
    return lake


@pytest.mark.parametrize("width", WIDTHS)
def test_the_real_trace_lands_as_the_emulator_counts_it(
    trace: EmulatorServer, replayed: Lake, width: Width
) -> None:
    assert published(replayed, width) == reported(trace.world, width, DAYS)


def test_the_real_trace_has_the_totals_that_its_authors_published(replayed: Lake) -> None:
    rows = published(replayed, "1d")
    assert sum(row[3] or 0 for row in rows) == 7_373
    assert sum(row[4] or 0 for row in rows) == 2 * 12_031


@pytest.mark.parametrize(("width", "groups"), list(product(WIDTHS, GROUPS)))
def test_buckets_are_the_api_s_own_answer_bucket_by_bucket(
    trace: EmulatorServer, replayed: Lake, width: Width, groups: tuple[str, ...]
) -> None:
    window = day_window(DAYS[0])
    query = PageQuery(window.start, window.end, width, group_by=groups)
    ours = answer(replayed, query).page
    truth = trace.world.usage(window.start, window.end, width, groups)
    assert json.dumps(ours["data"]) == json.dumps(truth)  # names, order and types too
    assert ours["has_more"] is False


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_what_goes_wrong_on_the_way_does_not_change_what_is_published(
    faults: Faults, tmp_path: Path
) -> None:
    days = DAYS if faults is FAULTS["all at once"] else DAYS[:1]
    with EmulatorServer(synthetic_world(days=len(days), users=6), faults) as server:
        lake = Lake(tmp_path)
        for day in reversed(days):
            load(server, lake, [day])
        for width in WIDTHS:
            assert published(lake, width) == reported(server.world, width, days)
        before = digests(lake.root)
        load(server, lake, days)
        assert digests(lake.root) == before


def test_the_same_days_leave_the_same_bytes_in_any_order_and_again(tmp_path: Path) -> None:
    with EmulatorServer(synthetic_world(days=2, users=6)) as server:
        once, other = Lake(tmp_path / "once"), Lake(tmp_path / "other")
        load(server, once, DAYS)
        before = digests(once.root)
        again = load(server, once, DAYS)
        assert digests(once.root) == before
        assert [day.changed for day in again] == [(), ()]
        for day in reversed(DAYS):
            load(server, other, [day])
    buckets = {name: digest for name, digest in before.items() if not name.startswith("raw")}
    assert buckets
    assert buckets.items() <= digests(other.root).items()


def test_any_number_of_workers_and_any_size_of_page_leave_the_same_bytes(tmp_path: Path) -> None:
    found: list[dict[str, str]] = []
    with EmulatorServer(synthetic_world(days=2, users=6)) as server:
        for number, (workers, clamp) in enumerate([(1, None), (2, 17), (8, 60), (32, 1_000)]):
            server.faults = Faults(clamp_limit=clamp)
            lake = Lake(tmp_path / str(number))
            load(server, lake, DAYS, replace(FAST, concurrency=workers))
            digests_of_all = digests(lake.root).items()
            # raw_usage says when it was fetched.
            found.append({name: one for name, one in digests_of_all if not name.startswith("raw")})
    assert len(found[0]) == 3 * len(DAYS)
    assert all(one == found[0] for one in found)


def test_a_restatement_is_taken_over_with_the_rows_that_vanish(tmp_path: Path) -> None:
    with EmulatorServer(synthetic_world(days=2, users=6)) as server:
        lake = Lake(tmp_path)
        load(server, lake, DAYS)
        fell, vanished = reported(server.world, "1m", DAYS[1:2])[0:2]
        server.world.restate(fell[0], fell[1], fell[2], operations=1)
        server.world.restate(vanished[0], vanished[1], vanished[2], drop=True)
        assert published(lake, "1m") != reported(server.world, "1m", DAYS)
        (changed,) = load(server, lake, DAYS[1:2])
        assert changed.changed
        for width in WIDTHS:
            assert published(lake, width) == reported(server.world, width, DAYS)


def test_a_spent_quota_keeps_the_days_that_were_finished_and_says_which_are_missing(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    days = list(day_range(DAYS[0], date(2024, 1, 3)))
    with EmulatorServer(synthetic_world(days=3), Faults(quota=5, quota_retry_after=3_600)) as api:
        with pytest.raises(LoadError, match="a quota of this key is spent") as stopped:
            load(api, lake, days, replace(FAST, concurrency=1))  # at once, all days may lack a page
        kept = [day.day for day in stopped.value.published]
        assert kept
        assert kept == lake.days("usage_1h") == lake.days("raw_usage")
        assert sorted([*kept, *stopped.value.missing]) == days
        assert published(lake, "1d") == reported(api.world, "1d", kept)

        api.reset_quota()
        api.faults = Faults()
        load(api, lake, stopped.value.missing)
        assert published(lake, "1m") == reported(api.world, "1m", days)


@pytest.mark.parametrize(
    "quirk", ["stray_buckets", "repeated_cursor", "missing_cursor", "denied_more"]
)
def test_a_server_that_lies_about_its_pages_publishes_nothing(quirk: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    faults = Faults(page_quirk=quirk, clamp_limit=10)  # type: ignore[arg-type]  # parametrized
    with (
        EmulatorServer(synthetic_world(days=1), faults) as server,
        pytest.raises(LoadError, match="Loaded and kept: 0 of 1 day"),
    ):
        load(server, lake, DAYS[:1])
    assert digests(lake.root) == {}
    assert not list((lake.root / ".staging").glob("*/"))


IDS = st.one_of(
    st.none(),
    st.sampled_from(["a", "A", "", " ", "'", '"', ",", "/", "\\", "ä", "ä", "🙂", "\x00", "NULL"]),
    st.text(max_size=8),
)
FIRST, LAST = day_window(DAYS[0]).start, day_window(DAYS[1]).end
MOMENTS = st.one_of(
    st.sampled_from(
        [FIRST, FIRST + 59.999, FIRST + 60, FIRST + 3_599.5, LAST - 86_400, LAST - 0.001]
    ),
    st.floats(FIRST, LAST, exclude_max=True),
)
EVENTS = st.lists(
    st.builds(
        Event,
        at=MOMENTS,
        user_id=IDS,
        api_key_id=IDS,
        conversations_created=st.integers(0, 3),
        items_added=st.integers(0, 2**40),
        operations=st.integers(0, 2**40),
    ),
    max_size=25,
)


def pages(lake: Lake, width: Width) -> list[dict[str, Any]]:
    """All buckets by user, page after page."""
    buckets: list[dict[str, Any]] = []
    query = PageQuery(FIRST, LAST, width, group_by=("user_id",))
    while True:
        page = answer(lake, query).page
        buckets += page["data"]
        if not page["has_more"]:
            return buckets
        query = replace(query, page=page["next_page"])


@given(events=EVENTS, clamp=st.one_of(st.none(), st.integers(30, 1_440)), sparse=st.booleans())
@example(events=[], clamp=None, sparse=True)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_log_of_events_is_published_exactly(
    events: list[Event], clamp: int | None, sparse: bool
) -> None:
    world = World.from_events(events, keys=("key",))
    faults = Faults(clamp_limit=clamp, sparse=sparse)
    with TemporaryDirectory() as folder, EmulatorServer(world, faults) as server:
        lake = Lake(Path(folder))
        load(server, lake, DAYS)
        for width in WIDTHS:
            assert published(lake, width) == reported(world, width, DAYS)
            assert pages(lake, width) == world.usage(FIRST, LAST, width, ("user_id",))
