"""A backfill becomes runs of as many days as the setting says, and each day is in one of them."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from typing import Final

import dagster as dg
import pytest
from dagster._core.definitions.automation_tick_evaluation_context import (
    build_run_requests_with_backfill_policies,
)
from dagster._core.definitions.events import AssetKeyPartitionKey

from pipeline.definitions import build_defs
from pipeline.endpoints import METERED
from pipeline.orchestration.partitions import days_of
from pipeline.orchestration.resources import Services
from pipeline.settings import COSTS, load_settings
from tests.orchestration.conftest import MakeLab
from tests.orchestration.lab import ASSETS, DAYS

FIRST: Final = date(2024, 2, 20)
ENDPOINTS: Final = ("conversations", next(iter(METERED)), COSTS)


@cache
def definitions(days_per_run: int | None) -> dg.Definitions:
    settings = load_settings(days_per_run=days_per_run, endpoints=",".join(ENDPOINTS))
    return build_defs(Services(load=lambda: settings))


def requested(defs: dg.Definitions, days: list[date]) -> list[dg.RunRequest]:
    """The runs that Dagster makes of a backfill of these days of the usage tables."""
    with dg.DagsterInstance.ephemeral() as instance:
        asked = build_run_requests_with_backfill_policies(
            [
                AssetKeyPartitionKey(dg.AssetKey(name), day.isoformat())
                for name in ASSETS
                for day in days
            ],
            defs.resolve_asset_graph(),
            instance,
        )
    return list(asked)


@pytest.mark.parametrize("days_per_run", [None, 1, 2, 7])
@pytest.mark.parametrize("length", [1, 7, 17])
@pytest.mark.parametrize("without", [[], [3, 4]], ids=["all", "days are left out"])
def test_the_runs_of_a_backfill_have_each_day_once(
    days_per_run: int | None, length: int, without: list[int]
) -> None:
    """Days need not follow each other: those that are loaded already may be left out."""
    pieces = 2 if without and length > max(without) + 1 else 1
    days = [FIRST + timedelta(days=at) for at in range(length) if at not in without]
    runs = requested(definitions(days_per_run), days)
    of_runs = [days_of({**run.tags, **partition(run)}) for run in runs]
    assert sorted(day for run in of_runs for day in run) == days
    assert max(map(len, of_runs)) <= (days_per_run or length)
    assert len(of_runs) <= (pieces if days_per_run is None else length // days_per_run + pieces)


def partition(run: dg.RunRequest) -> dict[str, str]:
    return {} if run.partition_key is None else {"dagster/partition": run.partition_key}


def test_other_endpoints_and_bills_are_loaded_in_such_runs_too_and_conversations_in_one() -> None:
    policies = {
        asset: definitions(7).resolve_asset_graph().get(dg.AssetKey(asset)).backfill_policy
        for asset in ("usage_1d", "meters_1d", "costs_1d", "conversations")
    }
    weekly = dg.BackfillPolicy.multi_run(max_partitions_per_run=7)
    assert policies == {
        "usage_1d": weekly,
        "meters_1d": weekly,
        "costs_1d": weekly,
        "conversations": dg.BackfillPolicy.single_run(),
    }


def test_a_run_of_a_range_is_one_run_however_many_days_a_backfill_has_in_one(
    make_lab: MakeLab,
) -> None:
    """As `mka1-usage run` and the schedules launch it."""
    lab = make_lab(days_per_run=1)
    assert lab.run(DAYS[0], DAYS[-1], checks=False).success
    assert lab.lake.days("usage_1d") == DAYS
