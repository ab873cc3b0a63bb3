"""What the API bills, by UTC day: `usage/costs`, which has no buckets and no pages.

Belongs here: asking for days, holding a day's rows against the API's own total, publishing it, and
finding days that were restated. Money is whole billionths of the currency throughout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Final, get_args

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.api import ApiError, Client, Costs, CostsQuery, get_costs
from pipeline.api.costs import CostGroup
from pipeline.async_runner import run_async
from pipeline.lake import engine, files, user_id_mode
from pipeline.lake.commit import Change, publish_days
from pipeline.lake.forgotten import LakeIds
from pipeline.lake.manifest import BILLS, Reading, manifest_of
from pipeline.lake.schemas import COSTS
from pipeline.lake.shortage import shortage
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms, UserIds
from pipeline.timeline import Window, closed_through, day_range, day_window, spans
from pipeline.usage.load import LoadError
from pipeline.usage.rollup import DayPublished

_ALL: Final[tuple[CostGroup, ...]] = get_args(CostGroup)
_FAILURES: Final = (ApiError, OSError, duckdb.Error, pa.ArrowException, files.ContractError)


def load_bills(
    connect: Callable[[], Client],
    lake: Lake,
    days: Sequence[date],
    *,
    pseudonyms: Pseudonyms | None = None,
    now: Callable[[], float] = time.time,
) -> list[DayPublished]:
    """Ask for what is billed of each of `days`, and publish it; in the order of `days`.

    A day that is not over at `now` (Unix seconds) is asked for up to the last closed minute. Rows
    that do not sum to the API's own total are asked for again; where they still differ, the day is
    published as disputed. Raises LoadError when a day failed: days after it are not begun.
    """
    user_id_mode.claim(lake, pseudonyms.fingerprint if pseudonyms else None)
    wanted, ids = sorted(set(days)), LakeIds(lake, pseudonyms)

    async def run() -> list[DayPublished]:
        async with connect() as client:
            return await _load(client, lake, wanted, ids, client.clock.over(now))

    return run_async(run())


async def _load(
    client: Client,
    lake: Lake,
    days: Sequence[date],
    ids: LakeIds,
    now: Callable[[], float],
) -> list[DayPublished]:
    done: list[DayPublished] = []
    for day in days:
        try:
            whole, asked_at = day_window(day), now()
            window = Window(whole.start, min(whole.end, closed_through(asked_at)))
            if window.start >= window.end:
                raise ApiError("has no closed minute yet by the API's clock")
            found, agrees, moved = await _bills(client, window)
            moves = moved and asked_at < lake.final_from(day)
            reading = Reading(asked_at, window.end, not (agrees or moves))
            done.append(await asyncio.to_thread(_publish, lake, day, found, reading, ids))
        except _FAILURES as error:
            missing = [one for one in days if one not in {it.day for it in done}]
            raise LoadError(done, missing, f"{day}: {shortage(error) or error}") from error
    return done


async def _bills(client: Client, window: Window) -> tuple[Costs, bool, bool]:
    """The costs of a window by all groups, whether they sum to the API's own total, and whether
    that total moved while it was asked for."""
    totals: set[int] = set()
    for _ in range(2):  # the API may have billed more in between
        costs = (await get_costs(client, CostsQuery(window.start, window.end, _ALL))).value
        total = (await get_costs(client, CostsQuery(window.start, window.end))).value.total_nano
        if sum(row.cost_nano for row in costs.rows) == costs.total_nano == total:
            return costs, True, bool(totals)
        totals.add(total)
    return costs, False, len(totals) > 1


def _publish(lake: Lake, day: date, costs: Costs, reading: Reading, ids: LakeIds) -> DayPublished:
    window = Window(day_window(day).start, reading.through)
    with (
        lake.day_lock(day),
        lake.staging() as folder,
        closing(engine.connect(lake)) as con,
    ):
        con.register("billed", _rows(day, costs, ids.now))
        rows = con.sql(engine.sql(COSTS.name)).to_arrow_reader(files.ROW_GROUP)
        path = folder / f"{COSTS.name}.parquet"
        written = files.write(COSTS, rows, path, window)
        readings = {**manifest_of(lake.version(day)).readings, BILLS: reading}
        change = Change({COSTS.name: path}, readings=readings)
        changed = publish_days(con, lake, {day: change})[day]
    return DayPublished(day, window, {COSTS.name: written}, tuple(changed), reading.disputed)


def _rows(day: date, costs: Costs, ids: UserIds | None) -> pa.Table:
    whole = day_window(day)
    users = [row.external_user_id for row in costs.rows]
    values: Mapping[str, object] = {
        "start_time": [datetime.fromtimestamp(whole.start, UTC)] * len(costs.rows),
        "end_time": [datetime.fromtimestamp(whole.end, UTC)] * len(costs.rows),
        "user_id": [ids.of(user) for user in users] if ids else users,
        "api_key_id": [row.api_key_id for row in costs.rows],
        "model": [row.model for row in costs.rows],
        "team_id": [row.team_id for row in costs.rows],
        "org_id": [row.org_id for row in costs.rows],
        "currency": [costs.currency] * len(costs.rows),
        "cost_nano": [row.cost_nano for row in costs.rows],
    }
    return pa.table(values, schema=COSTS.schema)


def billed_days(lake: Lake) -> list[date]:
    """The days whose bills are loaded, also where their file was removed."""
    return [
        day
        for day in lake.all_days()
        if lake.file(COSTS.name, day) or BILLS in manifest_of(lake.version(day)).readings
    ]


def restated_bills(connect: Callable[[], Client], lake: Lake, days: Sequence[date]) -> list[date]:
    """Those of `days` whose bills the API has restated, or that are to be asked for again.

    A stretch of days is compared by its total, and halved where that differs: changes that cancel
    each other in a stretch are not seen. Raises ApiError when the API can't be asked.
    """
    ours: dict[date, int] = {}
    again: list[date] = []
    damaged = {one.day for one in Snapshot(lake, days, names={COSTS.name}).damage}
    for day in days:
        path = lake.file(COSTS.name, day)
        reading = manifest_of(lake.version(day)).readings.get(BILLS)
        if path is None or reading is None or reading.disputed or day in damaged:
            again += [day] if reading or path else []
        elif reading.through < day_window(day).end:
            again.append(day)
        else:
            ours[day] = sum(pq.read_table(path).column("cost_nano").to_pylist())

    async def run() -> list[date]:
        async with connect() as client:
            return [
                day
                for first, last in spans(ours)
                for day in await _differing(client, ours, first, last)
            ]

    return sorted([*again, *(run_async(run()) if ours else [])])


async def _differing(
    client: Client, ours: Mapping[date, int], first: date, last: date
) -> list[date]:
    query = CostsQuery(day_window(first).start, day_window(last).end)
    days = [*day_range(first, last)]
    if (await get_costs(client, query)).value.total_nano == sum(ours[day] for day in days):
        return []
    if first == last:
        return [first]
    middle = len(days) // 2
    return [
        *await _differing(client, ours, first, days[middle - 1]),
        *await _differing(client, ours, days[middle], last),
    ]
