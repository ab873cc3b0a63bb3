"""Each fault looks on the wire as it says, comes when planned, and lets the patient through."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from pipeline.emulator import EmulatorServer, FaultKind, Faults, ManualClock, World
from pipeline.emulator.faults import FaultPlan

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]
PATH = "/usage/conversations?start_time=0&end_time=86400"


def outcome(http: httpx.Client, path: str = PATH) -> str:
    """The status of an answer with a whole JSON body, or what became of it instead."""
    try:
        answer = http.get(path)
    except httpx.RemoteProtocolError as error:
        return "cut" if "complete message body" in str(error) else "no answer"
    try:
        answer.json()
    except ValueError:
        return f"{answer.status_code} as {answer.headers['content-type'].partition(';')[0]}"
    return str(answer.status_code)


@pytest.mark.parametrize(
    ("kind", "faulty", "logged"),
    [
        ("rate_limited", ["429"] * 4, [429] * 4),
        ("server_error", ["500", "502", "503", "504"], [500, 502, 503, 504]),
        ("refused", ["no answer"] * 4, [0] * 4),
        ("reset", ["cut"] * 4, [200] * 4),
        ("truncated", ["200 as application/json"] * 4, [200] * 4),
        ("not_json", ["200 as text/html"] * 4, [200] * 4),
        ("timed_out", ["504"] * 4, [504] * 4),
    ],
)
def test_a_fault_is_what_it_says_and_ends_after_three_in_a_row(
    serve: Serve, client: Client, kind: FaultKind, faulty: list[str], logged: list[int]
) -> None:
    server = serve(World(), Faults(rates={kind: 1.0}))
    http = client(server)
    assert [outcome(http) for _ in range(5)] == [*faulty[:3], "200", faulty[3]]
    assert [status for _, _, status in server.requests] == [*logged[:3], 200, logged[3]]


def test_the_body_of_a_429_is_the_apis_own(serve: Serve, client: Client) -> None:
    answer = client(serve(World(), Faults(rates={"rate_limited": 1.0}))).get(PATH)
    assert answer.json() == {"error": "Rate limit exceeded"}
    assert "retry-after" not in answer.headers


def test_retry_after_comes_in_seconds_or_as_a_date(serve: Serve, client: Client) -> None:
    server = serve(
        World(), Faults(rates={"rate_limited": 1.0}, retry_after="seconds", retry_after_seconds=1)
    )
    assert client(server).get(PATH).headers["retry-after"] == "1"
    server.faults = Faults(rates={"rate_limited": 1.0}, retry_after="date")
    sent = parsedate_to_datetime(client(server).get(PATH).headers["retry-after"])
    assert sent.utcoffset() is not None


def test_faults_in_a_row_are_counted_for_each_request_line(serve: Serve, client: Client) -> None:
    faults = Faults(rates={"server_error": 1.0}, max_consecutive=1)
    http = client(serve(World(), faults))
    paths = [f"{PATH}&limit={limit}" for limit in (1, 2, 1, 2)]
    assert [outcome(http, path) for path in paths] == ["500", "502", "200", "200"]


POSTS = frozenset({"POST"})
HELLO = {"items": [{"type": "message", "role": "user", "content": "hello"}]}


def items_in(world: World, name: str) -> int:
    conversation = world.conversation(name)
    assert conversation is not None
    return len(conversation.items_at(world.clock()))


def items_added(world: World) -> int:
    rows = [row for day in world.usage(0, bucket_width="1d") for row in day["results"]]
    return sum(row["num_items_added"] for row in rows)


def test_a_lost_answer_to_a_post_leaves_the_items_there(serve: Serve, client: Client) -> None:
    world = World()
    name = world.create_conversation(None, None, "key_web")
    http = client(serve(world, Faults(rates={"reset": 1.0}, max_consecutive=1)))
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(f"/conversations/{name}/items", json=HELLO)
    assert items_in(world, name) == 1


def test_a_post_that_timed_out_is_done_later(serve: Serve, client: Client) -> None:
    world = World(clock=ManualClock(1_000))
    name = world.create_conversation(None, None, "key_web")
    http = client(serve(world, Faults(rates={"timed_out": 1.0}, timed_out_by=30, only=POSTS)))
    assert http.post(f"/conversations/{name}/items", json=HELLO).status_code == 504
    assert (items_in(world, name), items_added(world)) == (0, 0)
    world.clock = ManualClock(1_030)
    assert (items_in(world, name), items_added(world)) == (1, 1)


def test_what_is_posted_may_be_counted_later_than_it_is_there(serve: Serve, client: Client) -> None:
    world = World(clock=ManualClock(1_000))
    name = world.create_conversation(None, None, "key_web")
    http = client(serve(world, Faults(usage_delay=300)))
    assert http.post(f"/conversations/{name}/items", json=HELLO).status_code == 200
    assert (items_in(world, name), items_added(world)) == (1, 0)
    world.clock = ManualClock(1_300)
    assert items_added(world) == 1


def test_faults_can_be_aimed_at_posts_and_reads_then_change_nothing_about_them() -> None:
    rates: dict[FaultKind, float] = {"reset": 0.5}
    alone, among = (FaultPlan(Faults(rates=rates, only=POSTS)) for _ in range(2))
    lines = [f"POST /{number}" for number in range(100)]
    expected = [alone.next_request(line) for line in lines]
    drawn = [(among.next_request("GET /x"), among.next_request(line)) for line in lines]
    assert [read for read, _ in drawn] == [None] * 100
    assert [post for _, post in drawn] == expected
    assert {None, "reset"} == set(expected)


def test_latency_holds_up_each_request_by_itself(serve: Serve, client: Client) -> None:
    server = serve(World(), Faults(latency=0.1))
    http = client(server)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: outcome(http), range(8))) == ["200"] * 8
    assert 0.1 <= time.monotonic() - began < 0.7  # one after the other would take 0.8


def test_a_quota_ends_every_answer_until_it_is_reset(serve: Serve, client: Client) -> None:
    server = serve(World(), Faults(quota=2, quota_retry_after=7))
    http = client(server)
    answers = [http.get(PATH) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429, 429, 429, 429]
    assert {answer.headers["retry-after"] for answer in answers[2:]} == {"7"}
    server.reset_quota()
    assert [outcome(http) for _ in range(3)] == ["200", "200", "429"]


def decisions(faults: Faults, count: int = 400) -> list[Any]:
    plan = FaultPlan(faults)
    return [plan.next_request(f"GET /{number}") for number in range(count)]


def test_a_plan_follows_from_its_seed() -> None:
    rates: dict[FaultKind, float] = {"reset": 0.2, "rate_limited": 0.1}
    assert decisions(Faults(seed=5, rates=rates)) == decisions(Faults(seed=5, rates=rates))
    assert decisions(Faults(seed=5, rates=rates)) != decisions(Faults(seed=6, rates=rates))


def test_faults_come_about_as_often_as_their_rates_say() -> None:
    drawn = decisions(Faults(rates={"reset": 0.2, "rate_limited": 0.1}), 4_000)
    assert drawn.count("reset") == pytest.approx(800, rel=0.15)
    assert drawn.count("rate_limited") == pytest.approx(400, rel=0.15)
    assert drawn.count(None) == 4_000 - drawn.count("reset") - drawn.count("rate_limited")


def test_pages_are_odd_about_as_often_as_their_rate_says() -> None:
    plan = FaultPlan(Faults(page_quirk="stray_buckets", quirk_rate=0.3))
    drawn = [plan.next_quirk() for _ in range(4_000)]
    assert drawn.count("stray_buckets") == pytest.approx(1_200, rel=0.15)
    assert set(drawn) == {"stray_buckets", None}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rates": {"earthquake": 0.1}}, "earthquake"),
        ({"rates": {"reset": 0.7, "refused": 0.7}}, "rates"),
        ({"rates": {"reset": -0.1}}, "rates"),
        ({"touch_rate": 1.5}, "touch_rate"),
        ({"quirk_rate": -0.5}, "quirk_rate"),
        ({"touches": 0}, "touches"),
        ({"only": frozenset({"post"})}, "GET.POST"),
        ({"latency": -0.1}, "latency"),
        ({"timed_out_by": float("inf")}, "timed_out_by"),
        ({"usage_delay": float("nan")}, "usage_delay"),
        ({"quota": -1}, "quota"),
        ({"clamp_limit": 0}, "clamp_limit"),
        ({"expire_cursors_every": 0}, "expire_cursors_every"),
        ({"max_consecutive": 0}, "max_consecutive"),
        ({"unknown_cursor": 403}, "unknown_cursor"),
        ({"shared": frozenset({"teams"})}, "teams"),
        ({"restate_between": True}, "restate_between"),
    ],
)
def test_switches_that_mean_nothing_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Faults(**fields)
