"""Endpoint 1 over HTTP: its parameters, its pages, and what may be odd about them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from pipeline.emulator import START_2024, EmulatorServer, Event, Faults, ManualClock, World
from pipeline.emulator.faults import PageQuirk

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]
Walk = Callable[..., list[list[dict[str, Any]]]]
DAY = 86_400
WINDOW: dict[str, Any] = {
    "start_time": START_2024,
    "end_time": START_2024 + DAY,
    "bucket_width": "1h",
}
BOTH = ["user_id", "api_key_id"]
USAGE = "/usage/conversations"


@pytest.fixture
def truth(traffic: World) -> list[dict[str, Any]]:
    return traffic.usage(START_2024, START_2024 + DAY, "1h", BOTH)


@pytest.mark.parametrize("limit", [1, 2, 5, 23, 24, 25, 1_440])
def test_pages_of_any_size_make_up_the_whole(
    serve: Serve, client: Client, walk_usage: Walk, traffic: World, truth: Any, limit: int
) -> None:
    pages = walk_usage(client(serve(traffic)), **WINDOW, group_by=BOTH, limit=limit)
    assert [bucket for page in pages for bucket in page] == truth
    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize(("width", "default"), [("1m", 1_440), ("1h", 168), ("1d", 31)])
def test_without_a_limit_a_page_has_the_widths_own(
    serve: Serve, client: Client, width: str, default: int
) -> None:
    params: dict[str, Any] = {"start_time": 0, "end_time": 86_400 * 400, "bucket_width": width}
    assert len(client(serve()).get(USAGE, params=params).json()["data"]) == default


def test_a_window_off_the_edge_is_answered_in_whole_buckets(serve: Serve, client: Client) -> None:
    params: dict[str, Any] = {"start_time": 3_599, "end_time": 7_201, "bucket_width": "1h"}
    data = client(serve()).get(USAGE, params=params).json()["data"]
    assert [(b["start_time"], b["end_time"]) for b in data] == [
        (0, 3_600),
        (3_600, 7_200),
        (7_200, 10_800),
    ]


def test_a_walk_without_an_end_keeps_the_end_it_began_with(serve: Serve, client: Client) -> None:
    clock = ManualClock(7_000)
    http = client(serve(World(clock=clock)))
    params: dict[str, Any] = {"start_time": 0, "bucket_width": "1h", "limit": 1}
    first = http.get(USAGE, params=params).json()
    clock.now = 50_000
    second = http.get(USAGE, params={**params, "page": first["next_page"]}).json()
    assert [b["start_time"] for b in second["data"]] == [3_600]
    assert second["has_more"] is False


def test_every_key_sees_the_whole_organisation(serve: Serve, traffic: World, truth: Any) -> None:
    server = serve(traffic)
    for secret in server.api_keys.values():
        answer = httpx.get(
            f"{server.base_url}/api/v1/llm{USAGE}",
            params={**WINDOW, "group_by": BOTH},
            headers={"Authorization": f"Bearer {secret}", "X-On-Behalf-Of": "user_0000"},
            verify=False,
        )
        assert answer.json()["data"] == truth


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("end_time=60", 400),
        ("start_time=", 400),
        ("start_time=1.5", 400),
        ("start_time=1e3", 400),
        ("start_time=%D9%A1", 400),  # an Arabic digit
        ("start_time=+1", 400),
        ("start_time=0&start_time=0", 400),
        ("start_time=0&end_time=x", 400),
        ("start_time=60&end_time=60", 400),
        ("start_time=60&end_time=0", 400),
        ("start_time=0&bucket_width=5m", 400),
        ("start_time=0&bucket_width=", 400),
        ("start_time=0&limit=0", 400),
        ("start_time=0&limit=1441", 400),
        ("start_time=0&limit=ten", 400),
        ("start_time=0&group_by=user", 400),
        ("start_time=0&group_by=user_id,api_key_id", 400),
        ("start_time=0&group_by[]=user_id", 400),
        ("start_time=0&page=abc", 400),
        ("start_time=0&page=", 400),
        ("start_time=0&unknown=1", 400),
        ("start_time=0&page=%ff", 400),
        ("start_time=-60&end_time=60&bucket_width=1m&limit=1440", 200),
        ("start_time=0&end_time=60&group_by=org_id&group_by=user_id", 200),
        ("start_time=0&end_time=60&all_orgs=true&external_user_ids=a", 200),
    ],
)
def test_parameters_are_read_strictly(
    serve: Serve, client: Client, query: str, status: int
) -> None:
    answer = client(serve()).get(f"{USAGE}?{query}")
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status != 200)


def test_a_cursor_is_of_one_query_and_must_be_encoded(
    serve: Serve, client: Client, traffic: World
) -> None:
    http = client(serve(traffic))
    params: dict[str, Any] = {**WINDOW, "limit": 5}
    cursor = http.get(USAGE, params=params).json()["next_page"]
    assert set("+/=& ") <= set(cursor)
    assert http.get(USAGE, params={**params, "page": cursor}).status_code == 200
    assert http.get(USAGE, params={**params, "limit": 9, "page": cursor}).status_code == 200
    others: list[dict[str, Any]] = [
        {**params, "bucket_width": "1m"},
        {**params, "group_by": "user_id"},
        {**params, "user_ids": "user_0001"},
        {**params, "start_time": 0},
    ]
    for other in others:
        answer = http.get(USAGE, params={**other, "page": cursor})
        assert answer.status_code == 400
        assert answer.json() == {"error": "Invalid or expired page cursor"}
    unencoded = "&".join(f"{name}={value}" for name, value in params.items())
    assert http.get(f"{USAGE}?{unencoded}&page={cursor}").status_code == 400


def test_filters_by_organisation_and_user(serve: Serve, client: Client) -> None:
    world = World.from_events([Event(0, user, "k", operations=1) for user in ("a", "b,c", None)])
    http = client(serve(world))

    def users(**params: Any) -> list[str | None]:
        asked: dict[str, Any] = {
            "start_time": 0,
            "end_time": 60,
            "bucket_width": "1m",
            "group_by": "user_id",
        }
        body = http.get(USAGE, params={**asked, **params}).json()
        return [row["user_id"] for row in body["data"][0]["results"]]

    assert users() == [None, "a", "b,c"]
    assert users(user_ids=["a", "b,c"]) == ["a", "b,c"]
    assert users(external_user_ids="a") == ["a"]
    assert users(org_ids="another") == []
    assert users(org_ids="org_emulator") == [None, "a", "b,c"]


def test_sparse_pages_leave_out_empty_buckets_and_nothing_else(
    serve: Serve, client: Client, walk_usage: Walk, traffic: World, truth: Any
) -> None:
    http = client(serve(traffic, Faults(sparse=True)))
    busy = [bucket for bucket in truth if bucket["results"]]
    pages = walk_usage(http, **WINDOW, group_by=BOTH, limit=3)
    assert [bucket for page in pages for bucket in page] == busy
    quiet = walk_usage(http, start_time=0, end_time=DAY, bucket_width="1m", limit=3)
    assert quiet == [[]]


def test_a_server_may_give_less_than_the_limit(
    serve: Serve, client: Client, walk_usage: Walk, traffic: World, truth: Any
) -> None:
    http = client(serve(traffic, Faults(clamp_limit=7)))
    pages = walk_usage(http, **WINDOW, group_by=BOTH, limit=1_440)
    assert [len(page) for page in pages] == [7, 7, 7, 3]
    assert [bucket for page in pages for bucket in page] == truth


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("restated", [False, True])
def test_a_bucket_served_twice_is_true_the_second_time(
    serve: Serve,
    client: Client,
    walk_usage: Walk,
    traffic: World,
    truth: Any,
    limit: int,
    restated: bool,
) -> None:
    http = client(serve(traffic, Faults(duplicate_bucket=True, restate_between=restated)))
    pages = walk_usage(http, **WINDOW, group_by=BOTH, limit=limit)
    assert len(pages) > 2
    for earlier, later in pairwise(pages):
        assert earlier[-1]["start_time"] == later[0]["start_time"]
        assert (earlier[-1] != later[0]) is restated
    last = {bucket["start_time"]: bucket for page in pages for bucket in page}
    assert list(last.values()) == truth


def test_each_nth_use_of_a_cursor_is_refused(serve: Serve, client: Client, traffic: World) -> None:
    http = client(serve(traffic, Faults(expire_cursors_every=3)))
    params: dict[str, Any] = {**WINDOW, "limit": 1}
    params["page"] = http.get(USAGE, params=params).json()["next_page"]
    answers = [http.get(USAGE, params=params) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 200, 200, 400]
    assert answers[2].json() == {"error": "Invalid or expired page cursor"}


def test_rows_may_have_further_fields_and_come_in_parts(
    serve: Serve, client: Client, traffic: World, truth: Any
) -> None:
    http = client(serve(traffic, Faults(split_rows=True, extra_fields={"region": None})))
    data = http.get(USAGE, params={**WINDOW, "group_by": BOTH}).json()["data"]
    for bucket, true_bucket in zip(data, truth, strict=True):
        parts = bucket["results"]
        assert len(parts) == 2 * len(true_bucket["results"])
        for first, second, true_row in zip(
            parts[::2], parts[1::2], true_bucket["results"], strict=True
        ):
            assert first["region"] is None
            assert first["tier"] != second["tier"]
            summed = {
                name: first[name] + second[name] if name.startswith("num_") else first[name]
                for name in true_row
            }
            assert summed == true_row


@pytest.mark.parametrize(
    ("quirk", "sizes"),
    [
        ("empty_pages", [10, 0, 10, 0, 4]),
        ("stray_buckets", [12, 12, 6]),
    ],
)
def test_odd_pages_still_hold_the_window(
    serve: Serve,
    client: Client,
    walk_usage: Walk,
    traffic: World,
    truth: Any,
    quirk: PageQuirk,
    sizes: list[int],
) -> None:
    http = client(serve(traffic, Faults(page_quirk=quirk)))
    pages = walk_usage(http, **WINDOW, group_by=BOTH, limit=10)
    assert [len(page) for page in pages] == sizes
    inside = [
        bucket
        for page in pages
        for bucket in page
        if START_2024 <= bucket["start_time"] < START_2024 + DAY
    ]
    assert inside == truth


def test_a_cursor_may_repeat_or_be_missing(serve: Serve, client: Client, traffic: World) -> None:
    server = serve(traffic, Faults(page_quirk="repeated_cursor"))
    http = client(server)
    params: dict[str, Any] = {**WINDOW, "limit": 20}
    cursor = http.get(USAGE, params=params).json()["next_page"]
    again = http.get(USAGE, params={**params, "page": cursor}).json()
    assert (again["has_more"], again["next_page"]) == (True, cursor)
    server.faults = Faults(page_quirk="missing_cursor")
    body = http.get(USAGE, params=params).json()
    assert (body["has_more"], body["next_page"]) == (True, None)
