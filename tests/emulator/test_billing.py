"""What the emulator bills is its prices times what it counts, to the last unit, and other work."""

import csv
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.emulator
from pipeline.emulator import (
    START_2024,
    Charge,
    EmulatorServer,
    ManualClock,
    MeterEvent,
    Tokens,
    World,
)
from pipeline.emulator.billing import COST_GROUPS
from pipeline.emulator.prices import CHAT_MODELS, EMBEDDING_MODELS, PRICES

Serve = Callable[..., EmulatorServer]
Client = Callable[[EmulatorServer], httpx.Client]
DAY = 86_400
PRICE_LIST = Path(pipeline.emulator.__file__).with_name("prices.csv")
PT, MINI, REASONING = CHAT_MODELS
BILLED = ("completions", "responses", "embeddings")


def listed(model: str, day: date) -> list[Decimal]:
    """Dollars per million input, cached, output and reasoning tokens, as prices.csv says."""
    with PRICE_LIST.open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if fnmatchcase(model, row["model"]) and date.fromisoformat(row["valid_from"]) <= day
        ]
    row = max(rows, key=lambda row: ("*" not in row["model"], row["valid_from"]))
    assert row["currency"] == "usd"
    names = (("input", "input"), ("cached", "input"), ("output", "output"), ("reasoning", "output"))
    return [Decimal(row[name] or row[default]) for name, default in names]


@pytest.mark.parametrize("model", [*CHAT_MODELS, *EMBEDDING_MODELS])
@pytest.mark.parametrize("day", [date(2023, 1, 1), date(2024, 1, 3), date(2024, 1, 4)])
def test_the_price_list_says_what_is_charged(model: str, day: date) -> None:
    midnight = datetime.combine(day, time(), UTC).timestamp()
    valid = [price for price in PRICES if price.model == model and price.valid_from <= midnight]
    price = max(valid, key=lambda price: price.valid_from)
    charged = [price.input, price.cached, price.output, price.reasoning]
    assert [per_million * 1_000 for per_million in listed(model, day)] == charged


def by_the_list(rows: Sequence[tuple[date, dict[str, Any]]]) -> int:
    """What rows of usage cost by prices.csv, in billionths."""
    total = Decimal(0)
    for day, row in rows:
        read, cached, written, reasoning = listed(row["model"], day)
        total += (row["input_tokens"] - row["input_cached_tokens"]) * read
        total += row["input_cached_tokens"] * cached
        total += (row["output_tokens"] - row["output_reasoning_tokens"]) * written
        total += row["output_reasoning_tokens"] * reasoning
    nano = total * 1_000
    assert nano == int(nano)
    return int(nano)


def test_tokens_times_listed_prices_are_what_is_billed_by_model(traffic: World) -> None:
    for day in range(2):
        start = START_2024 + day * DAY
        rows = [
            (datetime.fromtimestamp(start, UTC).date(), row)
            for endpoint in BILLED
            for bucket in traffic.meters(endpoint, start, start + DAY, "1d", ("model",))
            for row in bucket["results"]
        ]
        billed = traffic.costs(start, start + DAY, ("model",))["data"]
        assert {row["model"] for row in billed} == {None, *CHAT_MODELS, *EMBEDDING_MODELS}
        for cost in billed:
            if cost["model"] is not None:
                of_model = [(day_, row) for day_, row in rows if row["model"] == cost["model"]]
                assert int(cost["cost_nano"]) == by_the_list(of_model)
            else:
                assert int(cost["cost_nano"]) > 0, "work that no usage shows"


def test_a_new_price_leaves_what_was_before_it_as_it_was() -> None:
    midnight = START_2024 + 3 * DAY
    world = World()
    for at in (midnight - 0.001, midnight):
        world.add_response(None, at, tokens=Tokens(1_000_000, 400_000, 100_000), model=PT)

    def nano(start: int, end: int) -> int:
        return int(world.costs(start, end)["total_cost_nano"])

    assert nano(midnight - DAY, midnight) == (600_000 * 600 + 400_000 * 300 + 100_000 * 1_800)
    assert nano(midnight, midnight + DAY) == (600_000 * 500 + 400_000 * 250 + 100_000 * 1_500)


MOMENTS = st.integers(0, 3 * 3_600).map(lambda second: START_2024 + second)


@st.composite
def billed_events(draw: st.DrawFn) -> MeterEvent:
    read, written = draw(st.integers(0, 10**12)), draw(st.integers(0, 10**6))
    return MeterEvent(
        draw(st.sampled_from(["completions", "embeddings", "extract"])),
        draw(MOMENTS),
        draw(st.sampled_from([None, "u", "v"])),
        draw(st.sampled_from([None, "k"])),
        draw(st.sampled_from([None, PT, MINI, REASONING, "free"])),
        measures={"input_tokens": read, "output_tokens": written},
        visible_at=draw(st.none() | MOMENTS),
    )


charges = st.builds(
    Charge,
    MOMENTS,
    st.sampled_from([None, "u"]),
    st.sampled_from([None, "k"]),
    st.integers(-(10**9), 10**9),
)


@settings(deadline=None, max_examples=60)
@given(
    log=st.lists(billed_events(), max_size=12),
    charged=st.lists(charges, max_size=4),
    window=st.lists(MOMENTS, min_size=2, max_size=2, unique=True).map(sorted),
    now=MOMENTS,
    group_by=st.lists(st.sampled_from(COST_GROUPS), unique=True),
)
def test_costs_equal_a_count_of_every_event(
    log: list[MeterEvent],
    charged: list[Charge],
    window: list[int],
    now: int,
    group_by: list[str],
) -> None:
    world = World.from_events(log, clock=ManualClock(now))
    for charge in charged:
        world.charge(charge)
    start, end = window
    # Dollars per million tokens, as they were in the first days of 2024.
    prices = {PT: (600, 1_800), MINI: (100, 400), REASONING: (2_000, 8_000)}
    things = [(c.model, c.api_key_id, c.user_id, c.at, c.at, c.cost_nano) for c in charged]
    for e in log:
        if e.endpoint != "extract" and e.model in prices:
            read, written = prices[e.model]
            tokens = e.measures
            nano = tokens.get("input_tokens", 0) * read + tokens.get("output_tokens", 0) * written
            seen = e.at if e.visible_at is None else max(e.at, e.visible_at)
            things.append((e.model, e.api_key_id, e.user_id, e.at, seen, nano))
    expected: dict[tuple[str | None, ...], int] = {}
    for model, key, user, at, seen, nano in things:
        if start <= at < end and seen <= now:
            whole = (model, key, key and f"team_of_{key}", user, "org_emulator")
            named = zip(COST_GROUPS, whole, strict=True)
            group = tuple(value if name in group_by else None for name, value in named)
            expected[group] = expected.get(group, 0) + nano
    answer = world.costs(start, end, group_by)
    rows = {tuple(row[n] for n in COST_GROUPS): int(row["cost_nano"]) for row in answer["data"]}
    assert rows == {group: nano for group, nano in expected.items() if nano}
    assert int(answer["total_cost_nano"]) == sum(expected.values())


def test_costs_over_http_are_the_worlds_in_its_documented_shape(
    serve: Serve, client: Client
) -> None:
    world = World()
    world.charge(Charge(START_2024 + 5, "u", "key_web", 12_300_000))
    world.charge(Charge(START_2024 + 6, None, None, -300_001))
    world.charge(Charge(START_2024 + DAY, "u", None, 7))
    http = client(serve(world))
    window = {"start_time": START_2024, "end_time": START_2024 + DAY}
    groups = {"group_by": ["api_key_id", "team_id", "external_user_id"]}
    assert http.get("/usage/costs", params={**window, **groups}).json() == {
        "object": "usage.costs",
        "currency": "usd",
        "start_time": START_2024,
        "end_time": START_2024 + DAY,
        "group_by": ["api_key_id", "team_id", "external_user_id"],
        "data": [
            {
                "model": None,
                "api_key_id": None,
                "team_id": None,
                "external_user_id": None,
                "org_id": None,
                "cost": -0.000300001,
                "cost_nano": "-300001",
            },
            {
                "model": None,
                "api_key_id": "key_web",
                "team_id": "team_of_key_web",
                "external_user_id": "u",
                "org_id": None,
                "cost": 0.0123,
                "cost_nano": "12300000",
            },
        ],
        "total_cost": 0.011999999,
        "total_cost_nano": "11999999",
    }
    ours = http.get("/usage/costs", params={**window, "org_id": "org_emulator"}).json()
    assert ours["total_cost_nano"] == "11999999"
    others = http.get("/usage/costs", params={**window, "org_id": "another"}).json()
    assert (others["data"], others["total_cost_nano"]) == ([], "0")
    assert (others["start_time"], others["end_time"]) == tuple(window.values())


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "start_time=0",
            "end_time=60",
            "start_time=60&end_time=60",
            "start_time=0&end_time=x",
        ),
        *("start_time=0&end_time=60&group_by=user_id", "start_time=0&end_time=60&bucket_width=1d"),
        "start_time=0&end_time=60&group_by=model,api_key_id",
    ],
)
def test_parameters_are_read_strictly(serve: Serve, client: Client, query: str) -> None:
    answer = client(serve()).get(f"/usage/costs?{query}")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_costs_are_known_by_their_groups_alone() -> None:
    with pytest.raises(ValueError, match="user_id"):
        World().costs(0, 60, ("user_id",))


def test_a_restated_meter_is_billed_as_restated() -> None:
    world = World.from_events(
        [MeterEvent("completions", START_2024, "u", "k", MINI, measures={"input_tokens": 9})]
    )
    world.restate_meter("completions", START_2024, "u", "k", MINI, input_tokens=-4)
    assert world.costs(START_2024, START_2024 + 60)["total_cost_nano"] == "500"
