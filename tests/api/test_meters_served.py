"""Usage of every endpoint, and costs, come whole through the client, whatever the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.api import (
    METERED,
    Client,
    CostsQuery,
    Endpoint,
    Limits,
    MeterBucket,
    PageSize,
    PagingError,
    UsageQuery,
    get_costs,
    meter_pages,
)
from pipeline.api.costs import COST_GROUPS
from pipeline.emulator import START_2024, EmulatorServer, Faults, World, synthetic_world
from pipeline.emulator.faults import PageQuirk
from pipeline.timeline import Width

DAY = 86_400
END = START_2024 + 2 * DAY
RESPONSES = METERED["responses"]
Rows = dict[tuple[Any, ...], dict[str, int]]


@pytest.fixture(scope="module")
def world() -> World:
    return synthetic_world(days=2, users=12)


def through(world: World, faults: Faults, call: Callable[[Client], Awaitable[Any]]) -> Any:
    async def no_wait(_: float) -> None:
        pass

    async def run(server: EmulatorServer) -> Any:
        limits = Limits(requests_per_second=10_000)
        key = SecretStr(server.api_key)
        async with Client(server.base_url, key, limits, sleep=no_wait) as client:
            return await call(client)

    with EmulatorServer(world, faults) as server:
        return asyncio.run(run(server))


def summed(buckets: list[MeterBucket]) -> Rows:
    """The measures by bucket and group; of a bucket served twice the later serving counts."""
    rows: Rows = {}
    for bucket in {bucket.start_time: bucket for bucket in buckets}.values():
        for row in bucket.results:
            group = (bucket.start_time, row.user_id, row.api_key_id, row.model)
            measures = rows.setdefault(group, {})
            for name, count in row.measures.items():
                measures[name] = measures.get(name, 0) + count
    return rows


def truth_of(world: World, endpoint: Endpoint, width: str) -> Rows:
    dimensions = tuple(name for name in endpoint.dimensions if name != "background")
    return {
        (bucket["start_time"], *(row.get(name) for name in ("user_id", "api_key_id", "model"))): {
            name: count for name, count in row.items() if type(count) is int
        }
        for bucket in world.meters(endpoint.name, START_2024, END, width, dimensions)
        for row in bucket["results"]
    }


def buckets_of(endpoint: Endpoint, width: Width) -> Callable[[Client], Awaitable[Rows]]:
    query = UsageQuery(START_2024, END, width, group_by=endpoint.dimensions, endpoint=endpoint)

    async def call(client: Client) -> Rows:
        pages = meter_pages(client, query, PageSize(buckets=20))
        return summed([bucket async for page in pages for bucket in page.buckets])

    return call


@pytest.mark.parametrize("endpoint", METERED.values(), ids=lambda endpoint: endpoint.name)
def test_hours_and_days_of_every_endpoint_are_those_of_the_world(
    world: World, endpoint: Endpoint
) -> None:
    async def call(client: Client) -> tuple[Rows, Rows]:
        return await buckets_of(endpoint, "1h")(client), await buckets_of(endpoint, "1d")(client)

    hours, days = through(world, Faults(), call)
    assert hours == truth_of(world, endpoint, "1h")
    assert days == truth_of(world, endpoint, "1d")
    assert days


@pytest.mark.parametrize(
    "faults",
    [
        Faults(clamp_limit=7),
        Faults(clamp_limit=5, sparse=True),
        Faults(clamp_limit=5, expire_cursors_every=3),
        Faults(clamp_limit=6, duplicate_bucket=True, restate_between=True),
        Faults(split_rows=True, extra_fields={"region": None, "share": 0.5, "by": {"a": 1}}),
        Faults(clamp_limit=10, page_quirk="empty_pages"),
        Faults(
            clamp_limit=5,
            rates={"rate_limited": 0.1, "server_error": 0.1, "truncated": 0.1, "not_json": 0.1},
        ),
    ],
    ids=lambda faults: str(
        faults.page_quirk or faults.rates or faults.extra_fields or faults.sparse
    ),
)
def test_responses_come_whole_over_pages_that_are_hard_to_read(
    world: World, faults: Faults
) -> None:
    assert through(world, faults, buckets_of(RESPONSES, "1h")) == truth_of(world, RESPONSES, "1h")


@pytest.mark.parametrize(
    "quirk", ["stray_buckets", "repeated_cursor", "missing_cursor", "denied_more"]
)
def test_pages_of_responses_that_cannot_be_right_are_an_error(
    world: World, quirk: PageQuirk
) -> None:
    with pytest.raises(PagingError):
        through(world, Faults(clamp_limit=5, page_quirk=quirk), buckets_of(RESPONSES, "1h"))


def test_what_the_contract_does_not_know_is_kept_beside_the_measures(world: World) -> None:
    query = UsageQuery(START_2024, END, group_by=RESPONSES.group_by, endpoint=RESPONSES)

    async def call(client: Client) -> set[str | None]:
        pages = meter_pages(client, query)
        return {row.extra async for p in pages for b in p.buckets for row in b.results}

    assert through(world, Faults(extra_fields={"share": 0.50}), call) == {
        f'{{"background":{background},"org_id":"org_emulator","share":0.5}}'
        for background in ("false", "true")
    }


@pytest.mark.parametrize("faults", [Faults(), Faults(rates={"truncated": 0.5, "not_json": 0.5})])
def test_costs_are_those_of_the_world(world: World, faults: Faults) -> None:
    query = CostsQuery(START_2024, START_2024 + DAY, COST_GROUPS)
    costs = through(world, faults, lambda client: get_costs(client, query)).value
    truth = world.costs(START_2024, START_2024 + DAY, COST_GROUPS)
    assert [tuple(getattr(row, name) for name in COST_GROUPS) for row in costs.rows] == [
        tuple(row[name] for name in COST_GROUPS) for row in truth["data"]
    ]
    assert [row.cost_nano for row in costs.rows] == [int(r["cost_nano"]) for r in truth["data"]]
    assert costs.total_nano == sum(row.cost_nano for row in costs.rows)
    assert costs.total_nano == int(truth["total_cost_nano"])
    assert costs.currency == "usd"
