"""The lake answers as the API would: same buckets, same order, same pages, same refusals."""

from __future__ import annotations

import json
import shutil
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise, product
from operator import attrgetter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.api import UsageQuery
from pipeline.emulator import EmulatorServer, Event, ManualClock, World, synthetic_world
from pipeline.lake.store import Lake
from pipeline.query.buckets import CursorError, NotLoadedError, PageQuery, answer
from pipeline.timeline import (
    ANY_WIDTHS,
    DAY,
    SECONDS,
    WIDTHS,
    AnyWidth,
    Width,
    Window,
    day_of,
    day_window,
    iso,
)
from tests.disputed import dispute
from tests.truth import load

START = day_window(date(2024, 1, 1)).start
DAYS = 3
END = START + DAYS * DAY
USERS = ("user_0000", 'o"brien, "pat"', "ユーザー七", "it's;--\\n", "nobody")
GROUPS: list[list[Any]] = [[], ["user_id"], ["api_key_id"], ["api_key_id", "user_id"]]
USER_FILTERS = [(), ("user_0000",), ("ユーザー七", "it's;--\\n"), ("nobody",), USERS]


@dataclass(frozen=True)
class Loaded:
    """Days in the lake, and the world that they were loaded from."""

    lake: Lake
    world: World


def loaded(folder: Path, world: World, days: Sequence[date]) -> Loaded:
    lake = Lake(folder / "lake")
    with EmulatorServer(world) as server:
        load(server, lake, days)
    return Loaded(lake, world)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Three days of made-up traffic, users with odd ids among it. Tests only read it."""
    world = synthetic_world(days=DAYS, users=20)
    days = [day_of(START + n * DAY) for n in range(DAYS)]
    return loaded(tmp_path_factory.mktemp("week"), world, days)


@pytest.fixture(scope="module")
def open_day(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """One whole day, and the next one as far as it went: to 10:30."""
    clock = ManualClock(START + DAY + 10.5 * 3_600 + 7)
    world = World.from_events(
        [Event(START + n * 3_600, "u", "k", 0, 1, 2) for n in range(48)], clock=clock
    )
    return loaded(tmp_path_factory.mktemp("open"), world, [day_of(START), day_of(START + DAY)])


def pages(lake: Lake, query: PageQuery) -> list[dict[str, Any]]:
    """The pages from the first to the last, by their cursors."""
    found = [answer(lake, query).page]
    while found[-1]["has_more"]:
        found.append(answer(lake, replace(query, page=found[-1]["next_page"])).page)
        assert len(found) <= 10_000
    return found


def cursor_of(week: Loaded, **changes: Any) -> str:
    query = replace(PageQuery(START, END, "1h", limit=5), **changes)
    page: str = answer(week.lake, query).page["next_page"]
    return page


# The numbers


@pytest.mark.parametrize(("width", "group_by"), list(product(WIDTHS, GROUPS)))
@pytest.mark.parametrize("users", USER_FILTERS)
def test_a_page_is_what_the_api_itself_would_count(
    week: Loaded, width: Width, group_by: list[Any], users: Sequence[str]
) -> None:
    query = PageQuery(START, END, width, group_by=group_by, user_ids=users)
    ours = [bucket for page in pages(week.lake, query) for bucket in page["data"]]
    assert ours == week.world.usage(START, END, width, group_by, users or None)


def test_the_api_and_the_lake_serve_the_same_json_page_by_page(week: Loaded) -> None:
    query = UsageQuery(START, END, "1h", limit=50, group_by=("user_id", "api_key_id"))
    ours = pages(week.lake, PageQuery(START, END, "1h", limit=50, group_by=query.group_by))
    with (
        EmulatorServer(week.world) as server,
        httpx.Client(
            base_url=server.base_url,
            headers={"Authorization": f"Bearer {server.api_key}"},
            trust_env=False,
            verify=False,
        ) as http,
    ):
        cursor = None
        for page in ours:
            params = httpx.QueryParams(list[Any](replace(query, page=cursor).params()))
            theirs = http.get("/api/v1/llm/usage/conversations", params=params).json()
            cursor = theirs["next_page"]
            assert (page["next_page"] is None) == (cursor is None)
            # But for the cursor, which is each server's own: names, order, types, values.
            assert json.dumps({**page, "next_page": 0}) == json.dumps({**theirs, "next_page": 0})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.integers(START, END - 1),
    length=st.integers(1, 2 * DAY),
    width=st.sampled_from(WIDTHS),
    limit=st.integers(1, 1440),
    group_by=st.sampled_from(GROUPS),
    users=st.lists(st.sampled_from(USERS), max_size=3),
)
@example(START, DAYS * DAY, "1d", 1, [], [])
@example(START + DAY - 1, 2, "1d", 1440, [], [])
@example(START + 59, 2, "1m", 1, ["user_id"], ["nobody", "nobody"])
def test_pages_of_any_limit_make_up_the_whole_window(
    week: Loaded,
    start: int,
    length: int,
    width: Width,
    limit: int,
    group_by: list[Any],
    users: list[str],
) -> None:
    end = min(start + length, END)
    if width == "1m":  # so that a limit of 1 stays a test of seconds
        end = min(end, start + 60 * limit * 20)
    query = PageQuery(start, end, width, limit, group_by=group_by, user_ids=users)
    found = pages(week.lake, query)
    buckets = [bucket for page in found for bucket in page["data"]]
    assert buckets == week.world.usage(start, end, width, group_by, users or None)
    assert all(len(page["data"]) == limit for page in found[:-1])
    assert 1 <= len(found[-1]["data"]) <= limit
    assert found[-1]["next_page"] is None


def test_a_page_may_have_another_limit_than_the_one_before(week: Loaded) -> None:
    first = answer(week.lake, PageQuery(START, END, "1h", limit=5)).page
    rest = answer(week.lake, PageQuery(START, END, "1h", page=first["next_page"])).page
    assert first["data"] + rest["data"] == week.world.usage(START, END, "1h")


def test_without_an_end_the_answer_ends_with_the_lake(open_day: Loaded) -> None:
    for width in WIDTHS:
        query = PageQuery(START, bucket_width=width)
        last = pages(open_day.lake, query)[-1]["data"][-1]
        assert (
            last["end_time"]
            == {
                "1m": START + DAY + 10 * 3_600 + 30 * 60,
                "1h": START + DAY + 11 * 3_600,
                "1d": START + 2 * DAY,
            }[width]
        )


def test_a_walk_keeps_its_end_while_the_lake_grows(tmp_path: Path) -> None:
    world = World.from_events([Event(START + n * 3_600, "u", "k", 0, 0, 1) for n in range(48)])
    one = loaded(tmp_path, world, [day_of(START)])
    query = PageQuery(START, bucket_width="1h", limit=23)
    first = answer(one.lake, query).page
    loaded(tmp_path, world, [day_of(START + DAY)])
    second = answer(one.lake, replace(query, page=first["next_page"])).page
    assert [b["start_time"] for b in second["data"]] == [START + 23 * 3_600]
    assert second["has_more"] is False


def test_null_is_a_group_of_its_own_and_comes_first(tmp_path: Path) -> None:
    events = [Event(START, user, key, 0, 0, 1) for user in (None, "", "a") for key in (None, "k")]
    one = loaded(tmp_path, World.from_events(events), [day_of(START)])
    query = PageQuery(START, START + 60, "1m", group_by=("user_id", "api_key_id"))
    [bucket] = answer(one.lake, query).page["data"]
    assert [(r["user_id"], r["api_key_id"]) for r in bucket["results"]] == [
        *((None, None), (None, "k"), ("", None), ("", "k"), ("a", None), ("a", "k"))
    ]
    [bucket] = answer(one.lake, replace(query, user_ids=("",))).page["data"]
    assert [r["user_id"] for r in bucket["results"]] == ["", ""]


@pytest.mark.parametrize(("width", "tz"), [("1h", "UTC"), ("6h", "Asia/Kolkata"), ("1d", "UTC")])
def test_a_page_is_the_same_however_many_queries_count_it(
    week: Loaded, monkeypatch: pytest.MonkeyPatch, width: AnyWidth, tz: str
) -> None:
    query = PageQuery(START, END, width, group_by=("user_id", "api_key_id"), tz=tz)
    at_once = b"".join(answer(week.lake, query, partial=True).text)
    monkeypatch.setattr("pipeline.query.page._AT_ONCE", 1)  # a query for each bucket
    monkeypatch.setattr("pipeline.query.page._WRITTEN", 1)
    pieces = list(answer(week.lake, query, partial=True).text)
    assert b"".join(pieces) == at_once
    assert len(pieces) > at_once.count(b'"num_operations"') > 0


# Cursors


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_cursor_that_was_changed_is_refused(week: Loaded, data: st.DataObject) -> None:
    cursor = cursor_of(week)
    place = data.draw(st.integers(0, len(cursor) - 1))
    change = data.draw(st.sampled_from(["replace", "insert", "cut"]))
    char = data.draw(st.sampled_from("aZ09-_=+/ é\n"))
    changed = {
        "replace": cursor[:place] + char + cursor[place + 1 :],
        "insert": cursor[:place] + char + cursor[place:],
        "cut": cursor[:place],
    }[change]
    if changed == cursor:
        return
    with pytest.raises(CursorError, match="is not a cursor"):
        answer(week.lake, PageQuery(START, END, "1h", limit=5, page=changed))


@pytest.mark.parametrize("page", ["", "x", "null", "W10", "é", "\ud800", "=" * 10, "A" * 10_000])
def test_what_never_was_a_cursor_is_refused(week: Loaded, page: str) -> None:
    with pytest.raises(ValueError, match=r"cursor|UTF-8"):
        answer(week.lake, PageQuery(START, END, "1h", page=page))


@pytest.mark.parametrize(
    "changes",
    [
        {"start_time": START + 3_600},
        {"end_time": END - 3_600},
        {"end_time": None},
        {"bucket_width": "1m"},
        {"group_by": ("user_id",)},
        {"user_ids": ("user_0000",)},
    ],
    ids=str,
)
def test_a_cursor_of_another_query_is_refused(week: Loaded, changes: dict[str, Any]) -> None:
    query = PageQuery(START, END, "1h", page=cursor_of(week, **changes))
    with pytest.raises(CursorError, match="another query"):
        answer(week.lake, query)


def test_the_order_of_groups_and_users_makes_no_other_query(week: Loaded) -> None:
    cursor = cursor_of(week, group_by=("user_id", "api_key_id"), user_ids=("a", "b", "a"))
    query = PageQuery(
        START, END, "1h", page=cursor, group_by=("api_key_id", "user_id"), user_ids=("b", "a")
    )
    assert answer(week.lake, query).page["data"][0]["start_time"] == START + 5 * 3_600


# Zero is not the same as not loaded


@pytest.mark.parametrize(
    ("start", "end", "missing"),
    [
        (END, END + DAY, "not loaded: 2024-01-04. "),
        (END - 60, END + 1, "not loaded: 2024-01-04. "),
        (START - 1, START + 1, "not loaded: 2023-12-31. "),
        (START - 2 * DAY, END + 2 * DAY, "not loaded: 2023-12-30 to 2023-12-31 (and 2 more). "),
        (253_402_214_400, 253_402_300_799, "not loaded: 9999-12-31. "),
    ],
)
def test_days_that_are_not_loaded_are_named_and_refused(
    week: Loaded, start: int, end: int, missing: str
) -> None:
    with pytest.raises(NotLoadedError) as refusal:
        answer(week.lake, PageQuery(start, end))
    assert missing in str(refusal.value)
    assert "mka1-usage run --start " in str(refusal.value)


def test_partial_counts_days_that_are_not_loaded_as_empty_and_says_so(week: Loaded) -> None:
    query = PageQuery(START - DAY, END + DAY)
    answered = answer(week.lake, query, partial=True)
    assert answered.page["data"] == week.world.usage(START - DAY, END + DAY)
    assert answered.complete_through == START - DAY


def test_an_empty_lake_says_how_to_load(tmp_path: Path) -> None:
    with pytest.raises(NotLoadedError, match="nothing is loaded yet"):
        answer(Lake(tmp_path), PageQuery(START))
    with pytest.raises(NotLoadedError, match="not loaded: 2024-01-01"):
        answer(Lake(tmp_path), PageQuery(START, START + 1))


def test_a_start_behind_the_lake_names_its_end(week: Loaded) -> None:
    with pytest.raises(NotLoadedError, match=f"the lake ends at {iso(END)}"):
        answer(week.lake, PageQuery(END))


@pytest.mark.parametrize(
    ("start", "end", "complete_through"),
    [
        (START, START + DAY, None),
        (START, START + DAY + 10 * 3_600, None),
        (START, START + 2 * DAY, START + DAY + 37_800),
        (START + DAY + 20 * 3_600, START + 2 * DAY, START + DAY + 37_800),
    ],
)
def test_an_open_day_is_complete_only_as_far_as_it_was_loaded(
    open_day: Loaded, start: int, end: int, complete_through: int | None
) -> None:
    answered = answer(open_day.lake, PageQuery(start, end, "1h"))
    assert answered.complete_through == complete_through
    assert len(answered.page["data"]) == (end - start) // SECONDS["1h"]


def test_a_page_is_complete_up_to_its_first_disputed_day(week: Loaded, tmp_path: Path) -> None:
    shutil.copytree(week.lake.root, tmp_path / "lake", symlinks=True)
    lake, day = Lake(tmp_path / "lake"), day_of(START + DAY)
    dispute(lake, day)
    answered = answer(lake, PageQuery(START, END))
    assert answered.page == answer(week.lake, PageQuery(START, END)).page
    assert (answered.complete_through, answered.disputed) == (START + DAY, [day])
    for start, end in ((START, START + DAY), (START + 2 * DAY, END)):
        assert answer(lake, PageQuery(start, end)).complete_through is None


def test_a_group_that_the_lake_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the lake"):
        PageQuery(START, END, group_by=("org_id",))


# Any width, any time zone


CLOCK_MOVES = {
    "America/New_York": "2024-03-10",
    "America/Havana": "2024-11-03",
    "Australia/Lord_Howe": "2024-04-07",
    "Asia/Kathmandu": "2024-03-10",
}


@dataclass(frozen=True)
class Moved:
    """Days in the lake in which a zone moves its clock, and what happened on them in order."""

    lake: Lake
    events: list[Event]
    tz: str
    window: Window


@pytest.fixture(scope="module", params=CLOCK_MOVES)
def moved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Six days around one on which a clock is moved, with an event every 7 minutes."""
    middle = day_window(date.fromisoformat(CLOCK_MOVES[request.param])).start
    window = Window(middle - 3 * DAY, middle + 3 * DAY)
    events = [
        Event(at, f"u{at % 3}", None if at % 5 else "k", 0, 1, at % 4)
        for at in range(window.start, window.end, 420)
    ]
    folder = tmp_path_factory.mktemp("moved")
    lake = loaded(folder, World.from_events(events), window.days).lake
    return Moved(lake, events, request.param, window)


@pytest.mark.parametrize("limit", [1, 7, 1_440])
@pytest.mark.parametrize("width", ANY_WIDTHS[1:])
def test_pages_of_any_width_and_zone_count_every_event_in_the_bucket_that_it_fell_in(
    moved: Moved, width: AnyWidth, limit: int
) -> None:
    start, end = moved.window.start + 2 * DAY, moved.window.end - 2 * DAY
    if limit < 100 and width in {"5m", "15m", "1h"}:  # an hour before the clock is moved
        start = moved.window.start + 3 * DAY + 4 * 3_600
        end = start + limit * 3 * {"5m": 300, "15m": 900, "1h": 3_600}[width]
    query = PageQuery(start, end, width, limit, group_by=("user_id",), tz=moved.tz)
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"has_more": True, "next_page": None}
    while page["has_more"]:
        query = replace(query, page=page["next_page"])
        page = answer(moved.lake, query, partial=True).page
        assert len(page["data"]) <= limit
        found += page["data"]
    assert found[0]["start_time"] <= start < found[0]["end_time"]
    assert found[-1]["start_time"] < end <= found[-1]["end_time"]
    for one, other in pairwise(found):
        assert one["end_time"] == other["start_time"]
    second = attrgetter("second")
    for bucket in found:
        expected = Counter[str]()
        first, behind = (
            bisect_left(moved.events, bucket[bound], key=second)
            for bound in ("start_time", "end_time")
        )
        for event in moved.events[first:behind]:
            if event.user_id:
                expected[event.user_id] += event.operations
        counted = {it["user_id"]: it["num_operations"] for it in bucket["results"]}
        assert counted == dict(expected)


def test_a_local_day_needs_the_days_of_utc_that_it_reaches_into(week: Loaded) -> None:
    query = PageQuery(START, START + DAY, tz="Asia/Karachi")
    with pytest.raises(NotLoadedError, match="not loaded: 2023-12-31"):
        answer(week.lake, query)
    inside = PageQuery(START + DAY, START + 2 * DAY, tz="Asia/Karachi")
    [first, second] = answer(week.lake, inside).page["data"]
    assert first["start_time"] == START + DAY - 5 * 3_600
    assert second["end_time"] == START + 3 * DAY - 5 * 3_600


def test_a_cursor_of_another_time_zone_is_refused(week: Loaded) -> None:
    cursor = cursor_of(week, tz="Europe/Berlin")
    with pytest.raises(CursorError, match="another query"):
        answer(week.lake, PageQuery(START, END, "1h", page=cursor))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tz": "Asia/Karach"}, "did you mean Asia/Karachi"),
        ({"bucket_width": "2d"}, "bucket_width is '2d': it must be one of 1m, 5m, 15m, 1h"),
        ({"limit": 0}, "limit is 0"),
        ({"group_by": ("user_id", "user_id")}, "repetition"),
        ({"tz": "Asia/Karachi", "end_time": 253_402_300_799}, "end_time is .* before 9999"),
        ({"start_time": -1}, "start_time"),
    ],
)
def test_a_question_that_has_no_answer_is_refused_in_words(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        PageQuery(**{"start_time": START, "end_time": END, **changes})


@pytest.mark.parametrize("tz", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_the_first_days_of_time_have_buckets_too(tmp_path: Path, tz: str) -> None:
    for width in ANY_WIDTHS:
        page = answer(Lake(tmp_path), PageQuery(0, DAY, width, tz=tz), partial=True).page
        assert page["data"][0]["start_time"] <= 0 < page["data"][0]["end_time"]


def test_a_century_that_is_not_loaded_takes_no_memory(week: Loaded) -> None:
    query = PageQuery(0, END + 100 * 366 * DAY, "1mo", tz="Asia/Kolkata")
    page = answer(week.lake, query, partial=True).page
    assert len(page["data"]) == query.limit
    counted = [bucket for bucket in page["data"] if bucket["results"]]
    assert [bucket["results"][0]["num_operations"] for bucket in counted] == [
        sum(event.operations for event in week.world.events())
    ]


@pytest.mark.parametrize("tz", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("partial", [True, False])
def test_of_a_century_only_the_days_that_are_loaded_are_looked_at(
    week: Loaded, tz: str, partial: bool
) -> None:
    class Counting(Lake):
        looks = 0

        def versions_at_once(self, days: Iterable[date] | None = None) -> dict[date, Path]:
            found = super().versions_at_once(days)
            self.looks += len(found)
            return found

    lake = Counting(week.lake.root)
    query = PageQuery(0, END + 100 * 366 * DAY, "1mo", tz=tz)
    if partial:
        assert len(answer(lake, query, partial=True).page["data"]) == query.limit
    else:
        with pytest.raises(
            NotLoadedError, match=r"not loaded: 19\d\d-\d\d-\d\d to 2023-12-31 \(and "
        ):
            answer(lake, query)
    assert 0 < lake.looks < 50
