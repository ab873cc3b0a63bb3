"""Hours and days of a run's days, rolled up by Spark in the shared lake, for the usage assets."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date

import dagster as dg
import duckdb

from pipeline.lake import files
from pipeline.lake.schemas import USAGE
from pipeline.lake.shortage import shortage
from pipeline.lake.store import Lake
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import failing
from pipeline.spark.connect import SparkError
from pipeline.spark.rollup import RollupError, roll_up
from pipeline.timeline import in_words
from pipeline.usage.rollup import DayPublished, published_day

_MADE = (USAGE["1h"].name, USAGE["1d"].name)


def rolled_up(services: Services, selected: Collection[str], days: list[date]) -> list[date]:
    """Roll up `days` (adjacent ones) in the shared lake; returns those that stand otherwise now.

    Failure, in one line, where more is selected than hours and days, a setting is missing, a day is
    not published, or Spark or the shared lake fail: nothing is committed then.
    """
    remote = services.settings.spark_remote
    if not set(selected) <= set(_MADE):
        raise dg.Failure(
            f"Spark makes hours and days of minutes: with `engine: spark` select {_MADE[0]} and "
            f"{_MADE[1]} alone"
        )
    with failing():
        shared = services.shared
        if shared is None or remote is None:
            raise dg.Failure(
                "`engine: spark` is for a shared lake: set MKA1_USAGE_CATALOG, "
                "MKA1_USAGE_WAREHOUSE and MKA1_USAGE_SPARK_REMOTE"
            )
        if missing := sorted(set(days) - set(shared.days())):
            raise dg.Failure(f"not published in the shared lake: {in_words(missing)}; load them")
        try:
            from pipeline.spark.job import on_spark  # noqa: PLC0415  the extra `spark`

            compute = on_spark(remote.get_secret_value())
            return roll_up(shared, compute, days[0], days[-1], services.lake).changed
        except (RollupError, SparkError, OSError, duckdb.Error) as error:
            raise dg.Failure(shortage(error) or str(error)) from error
        except ModuleNotFoundError as error:
            raise dg.Failure(
                f"Spark needs {error.name}: pip install 'mka1-usage[shared,spark]'"
            ) from error


def hydrated(
    lake: Lake, days: Collection[date], changed: Collection[date]
) -> Iterator[tuple[date, DayPublished]]:
    """What is known of days that were rolled up so, once they are hydrated."""
    for day in days:
        minutes = lake.file(USAGE["1m"].name, day)
        if minutes is not None:
            window = files.covered(minutes).window
            yield day, published_day(lake, day, window, _MADE if day in changed else ())
