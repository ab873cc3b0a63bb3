"""UTC days as Dagster partitions, and which of them a run is about, by its tags.

A run is about one day (`dagster/partition`) or about a range of days in a single run (the two
range tags). A run over a range must handle the whole of it, so the days are always a list here.
A backfill is one run over its range, or several (MKA1_USAGE_DAYS_PER_RUN).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

import dagster as dg

from pipeline.timeline import day_range

PARTITION: Final = "dagster/partition"
RANGE_START: Final = "dagster/asset_partition_range_start"
RANGE_END: Final = "dagster/asset_partition_range_end"


def daily(first_day: date) -> dg.DailyPartitionsDefinition:
    """UTC days from `first_day` through today: the open day is a partition, loaded so far."""
    return dg.DailyPartitionsDefinition(
        start_date=first_day.isoformat(), timezone="UTC", end_offset=1
    )


def backfill_policy(days_per_run: int | None) -> dg.BackfillPolicy:
    """How a backfill becomes runs: of so many days each, side by side; None: one over all of it."""
    if days_per_run is None:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=days_per_run)


def range_tags(first: date, last: date) -> dict[str, str]:
    """The tags of a single run over the days from `first` through `last`."""
    return {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}


def days_of(tags: Mapping[str, str]) -> list[date]:
    """The days that a run with these tags is about; none for a run without a partition."""
    if PARTITION in tags:
        return [date.fromisoformat(tags[PARTITION])]
    if RANGE_START in tags and RANGE_END in tags:
        first, last = (date.fromisoformat(tags[name]) for name in (RANGE_START, RANGE_END))
        return list(day_range(first, last))
    return []
