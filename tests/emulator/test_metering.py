"""The other usage endpoints count each event once, in its bucket, for every grouping and filter."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator import (
    START_2024,
    EmulatorServer,
    Event,
    Faults,
    ManualClock,
    MeterEvent,
    Tokens,
    World,
)
from pipeline.emulator.endpoints import ENDPOINTS
from pipeline.emulator.faults import PageQuirk

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]
Walk = Callable[..., list[list[dict[str, Any]]]]
DAY = 86_400
WIDTHS = {"1m": 60, "1h": 3_600, "1d": DAY}
METERED = [name for name in ENDPOINTS if name != "conversations"]
NAMES = st.sampled_from([None, "", "a", "b", "漢"])
MOMENTS = st.one_of(
    st.floats(-200_000, 200_000, allow_nan=False),
    st.integers(-60, 60).map(lambda hour: hour * 3_600 - 1e-9),
    st.integers(-3_000, 3_000).map(lambda minute: minute * 60.0),
)


@st.composite
def meter_events(draw: st.DrawFn) -> MeterEvent:
    endpoint = ENDPOINTS[draw(st.sampled_from(["responses", "completions", "files"]))]
    return MeterEvent(
        endpoint.name,
        draw(MOMENTS),
        draw(NAMES),
        draw(NAMES),
        draw(NAMES) if "model" in endpoint.dimensions else None,
        draw(st.none() | st.booleans()) if "background" in endpoint.dimensions else None,
        draw(st.dictionaries(st.sampled_from(endpoint.measures), st.integers(0, 2))),
        draw(st.none() | MOMENTS),
    )


def recount(
    log: Sequence[MeterEvent],
    endpoint: str,
    now: float,
    start: int,
    end: int,
    group_by: Sequence[str],
    filters: dict[str, Any],
) -> dict[tuple[Any, ...], dict[str, int]]:
    """One bucket by looking at every event anew."""
    rows: dict[tuple[Any, ...], dict[str, int]] = {}
    for event in log:
        if event.endpoint != endpoint or not start <= event.at < end or event.at > now:
            continue
        if event.visible_at is not None and event.visible_at > now:
            continue
        users, models = filters["user_ids"], filters["models"]
        background = filters["background"]
        if users is not None and event.user_id not in users:
            continue
        if models is not None and event.model not in models:
            continue
        if background is not None and event.background is not background:
            continue
        dimensions = ENDPOINTS[endpoint].dimensions
        group = tuple(getattr(event, n) if n in group_by else None for n in dimensions)
        row = rows.setdefault(group, dict.fromkeys(ENDPOINTS[endpoint].measures, 0))
        for name, count in event.measures.items():
            row[name] += count
    return {group: row for group, row in rows.items() if any(row.values())}


@settings(deadline=None, max_examples=60)
@given(
    log=st.lists(meter_events(), max_size=20),
    endpoint=st.sampled_from(["responses", "completions", "files"]),
    now=MOMENTS,
    later=MOMENTS,
    width=st.sampled_from(sorted(WIDTHS)),
    start=st.integers(-200_000, 200_000),
    data=st.data(),
)
def test_counting_equals_looking_at_every_event_for_every_bucket(
    log: list[MeterEvent],
    endpoint: str,
    now: float,
    later: float,
    width: str,
    start: int,
    data: st.DataObject,
) -> None:
    known = ENDPOINTS[endpoint].dimensions
    group_by = data.draw(st.lists(st.sampled_from(known), unique=True))
    some = st.none() | st.lists(st.sampled_from(["", "a", "nobody"]), max_size=2)
    filters: dict[str, Any] = {
        "user_ids": data.draw(some),
        "models": data.draw(some) if "model" in known else None,
        "background": data.draw(st.none() | st.booleans()) if "background" in known else None,
    }
    clock = ManualClock(now)
    world = World.from_events(log, clock=clock)
    for clock.now in (now, later, now):
        end = start + 20 * WIDTHS[width]
        for bucket in world.meters(endpoint, start, end, width, group_by, **filters):
            edges = bucket["start_time"], bucket["end_time"]
            expected = recount(log, endpoint, clock.now, *edges, group_by, filters)
            rows = {tuple(row[name] for name in known): row for row in bucket["results"]}
            assert len(rows) == len(bucket["results"]), "a group has one row"
            assert rows == {
                group: {
                    "object": f"organization.usage.{endpoint}.result",
                    **counts,
                    **dict(zip(known, group, strict=True)),
                }
                for group, counts in expected.items()
            }


def test_events_of_one_endpoint_are_none_of_another() -> None:
    world = World.from_events(
        [
            Event(0, "u", "k", operations=1),
            MeterEvent("completions", 0, "u", "k", "m", measures={"input_tokens": 3}),
        ]
    )
    counted = {name: len(world.meters(name, 0, 60, "1m")[0]["results"]) for name in ENDPOINTS}
    assert counted == {**dict.fromkeys(ENDPOINTS, 0), "conversations": 1, "completions": 1}


def test_rows_stand_by_each_dimension_with_null_first() -> None:
    groups = [("a", "z", True), ("a", "z", None), ("a", None, True), (None, "m", False)]
    world = World.from_events(
        [
            MeterEvent("responses", 0, user, "k", model, background, {"input_tokens": 1})
            for user, model, background in groups
        ]
    )
    rows = world.meters("responses", 0, 60, "1m", ENDPOINTS["responses"].dimensions)[0]["results"]
    assert [(row["user_id"], row["model"], row["background"]) for row in rows] == [
        (None, "m", False),
        ("a", None, True),
        ("a", "z", None),
        ("a", "z", True),
    ]


def test_a_response_counts_at_its_creation_once_it_has_finished() -> None:
    clock = ManualClock(100)
    world = World(clock=clock)
    name = world.create_conversation(10, "u", "key_web")
    world.add_response(
        name,
        59,
        tokens=Tokens(input=10, cached=4, output=6, reasoning=5),
        finished_at=200,
        model="m",
        background=True,
    )
    assert world.meters("responses", 0, 60, "1m")[0]["results"] == []
    clock.now = 200
    assert world.meters("responses", 0, 60, "1m", ENDPOINTS["responses"].dimensions) == [
        {
            "object": "bucket",
            "start_time": 0,
            "end_time": 60,
            "results": [
                {
                    "object": "organization.usage.responses.result",
                    "num_model_requests": 1,
                    "input_tokens": 10,
                    "input_cached_tokens": 4,
                    "output_tokens": 6,
                    "output_reasoning_tokens": 5,
                    "total_tokens": 16,
                    "user_id": "u",
                    "api_key_id": "key_web",
                    "model": "m",
                    "background": True,
                }
            ],
        }
    ]


def test_a_response_that_is_counted_late_or_belongs_to_no_conversation_counts_too() -> None:
    clock = ManualClock(100)
    world = World(clock=clock)
    world.add_response(None, 10, owner=("k", "u"), visible_at=300)
    assert world.meters("responses", 0, 60, "1m")[0]["results"] == []
    clock.now = 300
    (row,) = world.meters("responses", 0, 60, "1m", ("user_id", "api_key_id"))[0]["results"]
    assert (row["user_id"], row["api_key_id"], row["num_model_requests"]) == ("u", "k", 1)


def test_the_made_up_responses_are_those_that_are_counted(traffic: World) -> None:
    dimensions = ENDPOINTS["responses"].dimensions
    counted: dict[tuple[Any, ...], list[int]] = {}
    for response in traffic.all_responses():
        key, user = response.owner
        day = int(response.created_at) // DAY * DAY
        group = (day, user, key, response.model, response.background)
        counts = counted.setdefault(group, [0, 0, 0])
        tokens = response.tokens
        for place, more in enumerate((1, tokens.cached, tokens.input + tokens.output)):
            counts[place] += more
    names = ("num_model_requests", "input_cached_tokens", "total_tokens")
    assert counted == {
        (bucket["start_time"], *(row[name] for name in dimensions)): [row[name] for name in names]
        for bucket in traffic.meters(
            "responses", START_2024, START_2024 + 2 * DAY, "1d", dimensions
        )
        for row in bucket["results"]
    }


def day_row(world: World) -> list[int]:
    rows = world.meters("files", 0, DAY)[0]["results"]
    return [rows[0]["num_files"], rows[0]["file_bytes"]] if rows else []


def test_a_restatement_changes_a_minute_from_then_on_or_takes_it_away() -> None:
    clock = ManualClock(100_000)
    file = MeterEvent("files", 61, "u", "k", measures={"num_files": 2, "file_bytes": 30})
    world = World.from_events([file], clock=clock)
    clock.advance(10)
    world.restate_meter("files", 60, "u", "k", num_files=-1, file_bytes=5)
    assert day_row(world) == [1, 35]
    with pytest.raises(ValueError, match="less than nothing"):
        world.restate_meter("files", 60, "u", "k", num_files=-2)
    with pytest.raises(ValueError, match="not num_operations"):
        world.restate_meter("files", 60, "u", "k", num_operations=1)
    world.restate_meter("files", 119, "u", "k", drop=True)
    assert day_row(world) == []
    clock.advance(-10.5)
    assert day_row(world) == [2, 30]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"endpoint": "conversations"}, "conversations"),
        ({"endpoint": "sandboxes"}, "sandboxes"),
        ({"endpoint": "files", "model": "m"}, "no model"),
        ({"endpoint": "completions", "background": True}, "no background"),
        ({"endpoint": "files", "measures": {"input_tokens": 1}}, "input_tokens"),
        ({"endpoint": "files", "measures": {"num_files": -1}}, "negative"),
        ({"endpoint": "files", "at": float("nan")}, "finite"),
        ({"endpoint": "files", "visible_at": float("inf")}, "finite"),
    ],
)
def test_an_event_that_cannot_happen_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MeterEvent(**{"at": 0.0, "user_id": None, "api_key_id": None, **fields})


@pytest.mark.parametrize("group_by", [("model",), ("org_id",)])
def test_what_an_endpoint_is_not_grouped_by_is_refused_by_name(group_by: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=group_by[0]):
        World().meters("files", 0, 60, "1m", group_by)


WINDOW: dict[str, Any] = {
    "start_time": START_2024,
    "end_time": START_2024 + DAY,
    "bucket_width": "1h",
}


def truth_of(traffic: World, endpoint: str) -> list[dict[str, Any]]:
    dimensions = ENDPOINTS[endpoint].dimensions
    return traffic.meters(endpoint, START_2024, START_2024 + DAY, "1h", dimensions)


@pytest.mark.parametrize("endpoint", METERED)
def test_pages_of_any_size_make_up_the_whole(
    serve: Serve, client: Client, walk_usage: Walk, traffic: World, endpoint: str
) -> None:
    http = client(serve(traffic))
    group_by = ENDPOINTS[endpoint].dimensions
    for limit in (5, 24):
        pages = walk_usage(http, endpoint, **WINDOW, group_by=group_by, limit=limit)
        assert [bucket for page in pages for bucket in page] == truth_of(traffic, endpoint)
        assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("group_by=org_id", {"vector_stores": 400, "extract": 400, "classify": 400}),
        ("group_by=model", {"files": 400, "vector_stores": 400}),
        ("models=a&models=b", {"files": 400, "vector_stores": 400}),
        ("group_by=background", {**dict.fromkeys(METERED, 400), "responses": 200}),
        ("background=false", {**dict.fromkeys(METERED, 400), "responses": 200}),
        ("background=yes", dict.fromkeys(METERED, 400)),
        ("background=true&background=true", dict.fromkeys(METERED, 400)),
        ("limit=1441", dict.fromkeys(METERED, 400)),
        ("page=abc", dict.fromkeys(METERED, 400)),
    ],
)
def test_parameters_are_those_of_the_endpoint(
    serve: Serve, client: Client, query: str, statuses: dict[str, int]
) -> None:
    http = client(serve())
    for endpoint in METERED:
        answer = http.get(f"/usage/{endpoint}?start_time=0&end_time=60&{query}")
        assert answer.status_code == statuses.get(endpoint, 200), endpoint


def test_a_cursor_is_of_one_endpoint_and_one_filter(
    serve: Serve, client: Client, traffic: World
) -> None:
    http = client(serve(traffic))
    params: dict[str, Any] = {**WINDOW, "limit": 5, "background": "true", "models": ["m", "n"]}
    cursor = http.get("/usage/responses", params=params).json()["next_page"]
    assert http.get("/usage/responses", params={**params, "page": cursor}).status_code == 200
    for other in ({"background": "false"}, {"models": ["m"]}):
        answer = http.get("/usage/responses", params={**params, **other, "page": cursor})
        assert answer.json() == {"error": "Invalid or expired page cursor"}
    plain: dict[str, Any] = {**WINDOW, "limit": 5}
    cursor = http.get("/usage/responses", params=plain).json()["next_page"]
    answer = http.get("/usage/completions", params={**plain, "page": cursor})
    assert answer.json() == {"error": "Invalid or expired page cursor"}


@pytest.mark.parametrize("key_is_sent", [True, False])
def test_every_endpoint_needs_a_key(serve: Serve, client: Client, key_is_sent: bool) -> None:
    http = client(serve())
    if not key_is_sent:
        del http.headers["Authorization"]
    for name in (*METERED, "costs"):
        answer = http.get(f"/usage/{name}?start_time=0&end_time=60")
        assert answer.status_code == (200 if key_is_sent else 401), name


def test_sparse_and_repeated_pages_of_responses_hold_the_truth(
    serve: Serve, client: Client, walk_usage: Walk, traffic: World
) -> None:
    truth = truth_of(traffic, "responses")
    asked = {**WINDOW, "group_by": ENDPOINTS["responses"].dimensions, "limit": 3}
    server = serve(traffic, Faults(sparse=True))
    http = client(server)
    pages = walk_usage(http, "responses", **asked)
    assert [bucket for page in pages for bucket in page] == [b for b in truth if b["results"]]
    server.faults = Faults(duplicate_bucket=True, restate_between=True)
    pages = walk_usage(http, "responses", **asked)
    for earlier, later in pairwise(pages):
        assert earlier[-1]["start_time"] == later[0]["start_time"]
        assert earlier[-1] != later[0]
    assert list({b["start_time"]: b for page in pages for b in page}.values()) == truth


def test_rows_of_responses_may_come_in_parts(serve: Serve, client: Client, traffic: World) -> None:
    endpoint = ENDPOINTS["responses"]
    http = client(serve(traffic, Faults(split_rows=True)))
    params = {**WINDOW, "group_by": endpoint.dimensions}
    data = http.get("/usage/responses", params=params).json()["data"]
    for bucket, true_bucket in zip(data, truth_of(traffic, "responses"), strict=True):
        rows = bucket["results"]
        halves = zip(rows[::2], rows[1::2], true_bucket["results"], strict=True)
        for first, second, true_row in halves:
            assert first["tier"] != second["tier"]
            assert {
                name: first[name] + second[name] if name in endpoint.measures else first[name]
                for name in true_row
            } == true_row


@pytest.mark.parametrize("quirk", ["empty_pages", "stray_buckets"])
def test_odd_pages_of_completions_still_hold_the_window(
    serve: Serve, client: Client, walk_usage: Walk, traffic: World, quirk: PageQuirk
) -> None:
    http = client(serve(traffic, Faults(page_quirk=quirk)))
    group_by = ENDPOINTS["completions"].dimensions
    pages = walk_usage(http, "completions", **WINDOW, group_by=group_by, limit=10)
    inside = [
        bucket
        for page in pages
        for bucket in page
        if START_2024 <= bucket["start_time"] < START_2024 + DAY
    ]
    assert inside == truth_of(traffic, "completions")
