"""The ready-made worlds: the same everywhere, believable, and consistent with themselves."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipeline.emulator import START_2024, ManualClock, World, synthetic_world, trace_world, user_ids
from pipeline.emulator.endpoints import ENDPOINTS
from pipeline.emulator.prices import CHAT_MODELS
from pipeline.emulator.trace import COLUMNS
from tests.bounded import finished

TRACE = Path(__file__).parents[3] / "shared" / "data" / "mooncake_conversation_trace.csv"
DAY = 86_400
HEADER = ",".join(COLUMNS)

DIGEST = """
import hashlib, json
from pipeline.emulator import synthetic_world
world = synthetic_world(seed=3, days=2, users=12, late_share=0.1)
usage = world.usage(1704067200, 1704240000, "1m", ("user_id", "api_key_id"))
records = [usage, repr(world.events())]
records += [repr(world.all_conversations()), repr(world.all_responses())]
records += [repr(world.meter_events(name)) for name in ("completions", "files", "extract")]
records += [world.costs(1704067200, 1704240000, ("model", "external_user_id"))]
print(hashlib.sha256(json.dumps(records).encode()).hexdigest())
"""


def test_a_seed_gives_the_same_world_in_every_process() -> None:
    digests = {
        finished(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone},
        ).stdout
        for hash_seed, zone in (("1", "America/Sao_Paulo"), ("2", "Asia/Kolkata"))
    }
    assert len(digests) == 1
    assert all(len(digest.strip()) == 64 for digest in digests)


def test_another_seed_gives_another_world() -> None:
    assert (
        synthetic_world(seed=1, days=1, users=5).events()
        != synthetic_world(seed=2, days=1, users=5).events()
    )


def recorded(world: World) -> tuple[int, int]:
    conversations = world.all_conversations()
    return len(conversations), sum(len(conversation.items) for conversation in conversations)


def test_usage_adds_up_to_what_can_be_listed(traffic: World) -> None:
    (row,) = world_total(traffic, 2)
    assert (row["num_conversations_created"], row["num_items_added"]) == recorded(traffic)
    assert row["num_operations"] > len(traffic.all_responses()) + row["num_conversations_created"]


def world_total(world: World, days: int) -> list[dict[str, int]]:
    buckets = world.usage(START_2024, START_2024 + days * DAY, "1d")
    rows = [row for bucket in buckets for row in bucket["results"]]
    measures = ("num_conversations_created", "num_items_added", "num_operations")
    return [{measure: sum(row[measure] for row in rows) for measure in measures}]


def test_the_default_week_is_of_a_useful_size_and_stays_in_its_week() -> None:
    world = synthetic_world()
    events = world.events()
    assert 20_000 <= len(events) <= 60_000
    assert min(event.at for event in events) >= START_2024
    assert max(event.at for event in events) < START_2024 + 7 * DAY
    assert len({event.user_id for event in events} - {None}) == 50


def test_traffic_has_habits(traffic: World) -> None:
    events = synthetic_world(days=7, users=30).events()
    by_hour = [0] * 24
    by_day = [0] * 7
    by_user: dict[str | None, int] = {}
    for event in events:
        by_hour[int(event.at) % DAY // 3_600] += 1
        by_day[(int(event.at) - START_2024) // DAY] += 1
        by_user[event.user_id] = by_user.get(event.user_id, 0) + 1
    assert sum(by_hour[9:18]) > 2 * sum(by_hour[18:])
    assert min(by_day[:5]) > max(by_day[5:])
    busiest = sorted((count for user, count in by_user.items() if user is not None), reverse=True)
    assert sum(busiest[:6]) > sum(busiest[6:]) * 0.7
    assert 0 < by_user[None] < len(events) * 0.2
    assert {event.api_key_id for event in traffic.events()} == {*traffic.keys, None}


def test_traffic_has_what_breaks_naive_code(traffic: World) -> None:
    conversations = traffic.all_conversations()
    items = [item for conversation in conversations for item in conversation.items]
    assert any(conversation.deleted_at is not None for conversation in conversations)
    assert any(conversation.metadata is None for conversation in conversations)
    assert any(item.response_id is None for item in items)
    assert len({item.body["type"] for item in items}) >= 5
    assert any(response.conversation_id is None for response in traffic.all_responses())
    assert any(event.at % 60 == 0 for event in traffic.events())
    users = {event.user_id or "" for event in traffic.events()}
    ids = "".join([*users, *(conversation.id for conversation in conversations)])
    assert set("\"'/, %+&#?") <= set(ids)
    assert not ids.isascii()


def test_traffic_is_of_every_usage_endpoint(traffic: World) -> None:
    for endpoint in ENDPOINTS:
        rows = [
            r
            for b in traffic.meters(endpoint, START_2024, START_2024 + 2 * DAY)
            for r in b["results"]
        ]
        assert all(sum(row[name] for row in rows) for name in ENDPOINTS[endpoint].measures[:2])
    for event in (e for name in ("completions", "files") for e in traffic.meter_events(name)):
        assert START_2024 <= event.at < START_2024 + 2 * DAY


def test_responses_have_what_costs_and_failures_are_told_from(traffic: World) -> None:
    responses = traffic.all_responses()
    assert {response.model for response in responses} == set(CHAT_MODELS)
    assert {response.background for response in responses} == {False, True}
    assert {"failed", "incomplete", "completed"} <= {response.status for response in responses}
    tokens = [response.tokens for response in responses]
    assert all(one.cached <= one.input and one.reasoning <= one.output for one in tokens)
    assert sum(one.cached for one in tokens) > sum(one.input for one in tokens) / 10
    for response in responses:
        if response.tokens.reasoning:
            assert response.model == CHAT_MODELS[-1]
        if response.status == "failed":
            assert response.tokens.output == 0
    by_conversation = {(r.conversation_id, r.model) for r in responses if r.conversation_id}
    assert len(by_conversation) == len({name for name, _ in by_conversation})


def test_late_traffic_is_counted_in_the_end() -> None:
    clock = ManualClock(START_2024 + DAY)
    late = synthetic_world(days=1, users=10, late_share=0.5, clock=clock)
    before = world_total(late, 1)
    clock.advance(6 * 3_600)
    after = world_total(late, 1)
    assert before[0]["num_operations"] < after[0]["num_operations"]
    assert after[0]["num_operations"] == sum(event.operations for event in late.events())


@pytest.mark.parametrize(("days", "users"), [(0, 1), (1, 0)])
def test_a_world_of_nobody_or_no_time_is_refused(days: int, users: int) -> None:
    with pytest.raises(ValueError, match="at least one day and one user"):
        synthetic_world(days=days, users=users)


def test_small_worlds_have_odd_users_too() -> None:
    assert sum(not name.startswith("user_") for name in user_ids(10)) == 3
    assert len(set(user_ids(50))) == 50


@pytest.mark.skipif(not TRACE.exists(), reason=f"the trace is not there: {TRACE}")
def test_the_trace_has_its_known_totals() -> None:
    world = trace_world(TRACE)
    assert recorded(world) == (7_373, 24_062)
    assert len(world.all_responses()) == 12_031
    assert world_total(world, 1) == [
        {
            "num_conversations_created": 7_373,
            "num_items_added": 24_062,
            "num_operations": 7_373 + 12_031,
        }
    ]
    assert {event.api_key_id for event in world.events()} == set(world.keys)
    models = Counter(response.model for response in world.all_responses())
    assert set(models) == set(CHAT_MODELS)
    (row,) = world.meters("responses", START_2024, START_2024 + DAY)[0]["results"]
    assert row["num_model_requests"] == 12_031
    assert row["total_tokens"] == sum(
        response.tokens.input + response.tokens.output for response in world.all_responses()
    )
    owners = [conversation.owner[1] for conversation in world.all_conversations()]
    assert 0.03 < owners.count(None) / len(owners) < 0.07
    assert 400 < len(set(owners)) <= 501


def test_a_trace_replays_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(f"{HEADER}\n0,0,10,50\n1500,1,20,100\n61000,0,30,0\n", encoding="utf-8")
    world = trace_world(path, start=600)
    assert [conversation.created_at for conversation in world.all_conversations()] == [600, 601.5]
    responses = world.all_responses()
    assert [(r.created_at, r.finished_at) for r in responses] == [
        (600, 601),
        (601.5, 603.5),
        (661, 661),
    ]
    minutes = world.usage(600, 720, "1m")
    assert [minute["results"][0]["num_items_added"] for minute in minutes] == [4, 2]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1: expected the columns .* found nothing"),
        ("time,user\n", "line 1: expected the columns timestamp_ms.* found time,user"),
        (f"{HEADER}\n1,2,3\n", "line 2: expected 4 whole numbers .* found 1,2,3"),
        (f"{HEADER}\n1,2,3,4\n\n", "line 3: .* found nothing"),
        (f"{HEADER}\n1,2,3,4\n5,x,7,8\n", "line 3: .* found 5,x,7,8"),
        (f"{HEADER}\n-1,2,3,4\n", "line 2"),
        (f"{HEADER}\n1.5,2,3,4\n", "line 2"),
        (f"{HEADER}\n²,2,3,4\n", "line 2"),
    ],
)
def test_a_malformed_trace_is_refused_by_file_and_line(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"odd\.csv, {named}"):
        trace_world(path)


def test_a_missing_or_binary_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.csv, line 1: expected a readable"):
        trace_world(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.csv, line 1: expected a readable"):
        trace_world(tmp_path / "binary.csv")
