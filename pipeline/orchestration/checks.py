"""The blocking checks over what is published: the contract, the sums, and the API's own totals.

A run checks the days that it is about; a check that is started alone checks all that is loaded.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Final

import dagster as dg
import duckdb
import pyarrow as pa

from pipeline.api import ApiError
from pipeline.lake import consistency, engine
from pipeline.lake.files import ContractError
from pipeline.lake.manifest import reading_of
from pipeline.lake.schemas import (
    COST_DATASETS,
    COSTS,
    DATASETS,
    MEASURES,
    METER_DATASETS,
    METERS,
    RAW_METERS,
    USAGE,
    USAGE_DATASETS,
)
from pipeline.lake.shortage import shortage
from pipeline.lake.snapshot import Snapshot, reason
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.orchestration.assets.days import LOAD_METERS, LOAD_USAGE, reads_of
from pipeline.orchestration.assets.usage import API_POOL
from pipeline.orchestration.partitions import days_of
from pipeline.orchestration.resources import Services
from pipeline.orchestration.shared import pulled
from pipeline.query.reconciliation import summary, worst
from pipeline.settings import SettingsError
from pipeline.timeline import closed_through, day_of, in_words, trailing_days
from pipeline.usage.feed import CONVERSATIONS, Feed
from pipeline.usage.totals_check import Comparison, compare_days

_SHOWN: Final = 20


Tables = Mapping[str, tuple[str, Iterable[str]]]
"""By check, what it says and of which tables."""
_SCHEMA: Final = "Columns, types and order are the contract's."
_GRAIN: Final = "One row per bucket and group."
_COUNTS: Final = "No count is below zero."
_METERED: Final = tuple(dataset.name for dataset in METERS.values())
_TABLE_CHECKS: Final[Tables] = {
    "schema_as_contracted": (
        _SCHEMA,
        [name for name in DATASETS if name not in METER_DATASETS | COST_DATASETS],
    ),
    "grain_unique": (_GRAIN, [name for name in consistency.GROUPED if name not in _METERED]),
    "counts_not_negative": (
        _COUNTS,
        [name for name in consistency.COUNTED if name not in METER_DATASETS],
    ),
    "ids_unique": ("One row per id, over all days.", ("conversations", "responses", "items")),
    "totals_equal_across_grains": (
        "raw_usage, 1m, 1h and 1d have the same totals, day by day.",
        ("usage_1d",),
    ),
    "widths_add_up": (
        "60 minutes are their hour and 24 hours their day, for each user and key.",
        ("usage_1d",),
    ),
}
_METER_CHECKS: Final[Tables] = {
    "schema_as_contracted": (_SCHEMA, METER_DATASETS),
    "grain_unique": (_GRAIN, _METERED),
    "counts_not_negative": (_COUNTS, (RAW_METERS.name, *_METERED)),
    "widths_add_up": (
        "60 minutes are their hour and 24 hours their day, for each endpoint and group.",
        (_METERED[-1],),
    ),
}


def _table_checks(name: str, tables: Tables, loaded: str) -> dg.AssetChecksDefinition:
    """The checks that need no API, of some tables, which are there on the days of `loaded`."""

    @dg.multi_asset_check(
        name=name,
        specs=[
            dg.AssetCheckSpec(check, asset=table, description=description, blocking=True)
            for check, (description, checked) in tables.items()
            for table in checked
        ],
        can_subset=True,
    )
    def check(
        context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
    ) -> Iterator[dg.AssetCheckResult]:
        yield from _checked(context, services, _days(context, services, loaded))

    return check


check_tables: Final = _table_checks("check_tables", _TABLE_CHECKS, USAGE["1d"].name)
check_meters: Final = _table_checks("check_meters", _METER_CHECKS, METERS["1d"].name)
check_costs: Final = _table_checks(
    "check_costs", {"schema_as_contracted": (_SCHEMA, COST_DATASETS)}, COSTS.name
)


def _checked(
    context: dg.AssetCheckExecutionContext, services: Services, days: Sequence[date]
) -> Iterator[dg.AssetCheckResult]:
    """The checks that need no API."""
    snapshot = Snapshot(services.lake)
    files = {name: snapshot.published(name, days) for name in DATASETS}
    with closing(engine.connect(services.lake)) as con:
        for key in sorted(context.selected_asset_check_keys):
            asset = key.asset_key.to_user_string()
            found: Sequence[object]
            try:
                found = _find(con, snapshot, key.name, {asset: files[asset]}, days)
            except (duckdb.Error, pa.ArrowException, ContractError, OSError) as error:
                # A file that can't be read fails the check, and leaves the others to be made.
                found = [f"can't be checked: {reason(services.lake, error)}"]
            yield dg.AssetCheckResult(
                asset_key=asset,
                check_name=key.name,
                passed=not found,
                metadata={
                    "days": in_words(days),
                    "files": f"{len(files[asset]):,}",  # as text: Dagster would plot a number
                    **({"found": "\n".join(map(str, found[:_SHOWN]))} if found else {}),
                },
            )


def _find(
    con: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    check: str,
    files: consistency.Files,
    days: Iterable[date],
) -> Sequence[object]:
    match check:
        case "schema_as_contracted":
            return consistency.schemas(files)
        case "grain_unique":
            return consistency.grain(con, files)
        case "counts_not_negative":
            return consistency.counts(con, files)
        case "ids_unique":
            return consistency.ids(con, {name: snapshot.published(name) for name in files})
        case "widths_add_up":
            metered = _METERED[-1] in files
            names = (RAW_METERS.name, *_METERED) if metered else USAGE_DATASETS
            add_up = consistency.meters if metered else consistency.rollups
            return add_up(con, _whole(snapshot, names, days))
        case _:
            return consistency.totals(con, _whole(snapshot, USAGE_DATASETS, days))


def _whole(
    snapshot: Snapshot, names: Collection[str], days: Iterable[date]
) -> dict[str, list[Path]]:
    """The files of tables that are held against each other, of the days that keep all of these."""
    kept = [day for day in days if not any(snapshot.is_dropped(name, day) for name in names)]
    return {name: snapshot.published(name, kept) for name in names}


@dg.asset_check(
    asset="usage_1d",
    name="totals_equal_the_api",
    blocking=True,
    pool=API_POOL,
    description=(
        "usage_1d and usage_1h sum to the API's own 1d and 1h answers. A difference in the "
        "trailing window is a warning, since the API may have counted more in the meantime; an "
        "older one is an error."
    ),
)
def check_against_api(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> dg.AssetCheckResult:
    """Two cheap requests for the days that are over, one more for the open day.

    None where the load of the run went by totals: it has compared all days a moment ago.
    """
    days = _days(context, services, USAGE["1d"].name)
    return _against_api(context, services, days, {"": CONVERSATIONS}, LOAD_USAGE)


@dg.asset_check(
    asset="meters_1d",
    name="totals_equal_the_api",
    blocking=True,
    pool=API_POOL,
    description="meters_1d and meters_1h sum to each endpoint's own 1d and 1h answers.",
)
def check_meters_against_api(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> dg.AssetCheckResult:
    """As `check_against_api`, endpoint by endpoint."""
    feeds = {feed.endpoint: feed for feed in services.feeds}
    days = _days(context, services, METERS["1d"].name)
    return _against_api(context, services, days, feeds, LOAD_METERS)


def _against_api(
    context: dg.AssetCheckExecutionContext,
    services: Services,
    days: Sequence[date],
    feeds: Mapping[str, Feed],
    load: str,
) -> dg.AssetCheckResult:
    compared_by_load = reads_of(context.run.run_config, load) != "full"
    compared: dict[str, list[Comparison]] = {}
    try:
        for endpoint, feed in feeds.items():
            asked = _disputed(services.lake, endpoint, days) if compared_by_load else days
            compared[endpoint] = compare_days(services.connect, services.lake, asked, feed)
    except (ApiError, SettingsError) as error:
        raise dg.Failure(str(error)) from error
    except (ContractError, pa.ArrowException, duckdb.Error) as error:
        return dg.AssetCheckResult(
            passed=False,
            description=shortage(error)
            or f"usage can't be read as it was published: {reason(services.lake, error)}",
        )
    differing = {
        endpoint: those
        for endpoint, found in compared.items()
        if (those := [one for one in found if not one.agrees])
    }
    today = day_of(closed_through(services.clock()))
    still_moving, _ = trailing_days(today, services.settings.lookback_days)
    settled = any(one.day < still_moving for found in differing.values() for one in found)
    return dg.AssetCheckResult(
        passed=not differing,
        severity=dg.AssetCheckSeverity.ERROR if settled else dg.AssetCheckSeverity.WARN,
        description="\n".join(_difference(*found) for found in differing.items()) or None,
        metadata={
            "days": in_words(sorted({one.day for found in compared.values() for one in found})),
            "compared_by_the_load": "all but these" if compared_by_load else "none",
            "totals": dg.MetadataValue.table(
                records=_records(differing or compared), schema=_TOTALS_SCHEMA
            ),
        },
    )


def _disputed(lake: Lake, endpoint: str, days: Iterable[date]) -> list[date]:
    """The days that the load has found to differ from the API's totals."""
    readings = ((day, reading_of(lake.version(day), endpoint)) for day in days)
    return [day for day, reading in readings if reading is not None and reading.disputed]


@dg.asset_check(
    asset="reconciliation",
    name="no_unexplained_differences",
    description=(
        "What the API reports is what was observed, or it is known why not. A warning: which side "
        "is wrong, the tables cannot tell."
    ),
)
def check_reconciliation(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> dg.AssetCheckResult:
    """The worst differences of the days, and how many there are of each class."""
    pulled(services, days_of(context.run.tags) or None)
    seen = Snapshot(services.lake, days_of(context.run.tags) or None, names={"reconciliation"})
    days = seen.days("reconciliation")
    with closing(engine.connect(services.lake)) as con:
        counted = summary(con, seen, days).to_pylist()
        differences = worst(con, seen, days, _SHOWN).to_pylist()
    unexplained = sum(row["comparisons"] for row in counted if row["class"] == "unexplained")
    sentences = list(seen.warnings)
    if unexplained:
        sentences.insert(
            0,
            f"{count(unexplained, 'difference')} between what the API reports and what could be "
            f"observed on {in_words(days)}, without an explanation; `mka1-usage reconcile` lists "
            "them.",
        )
    return dg.AssetCheckResult(
        passed=not unexplained and not seen.damage,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join(sentences) or None,
        metadata={
            "days": in_words(days),
            "classes": dg.MetadataValue.table(
                records=[dg.TableRecord({**row}) for row in counted], schema=_CLASSES_SCHEMA
            ),
            "worst": dg.MetadataValue.table(
                records=[
                    dg.TableRecord({**row, "day": f"{row['day']:%Y-%m-%d}"}) for row in differences
                ],
                schema=_WORST_SCHEMA,
            ),
        },
    )


def _table(text: Sequence[str], numbers: Sequence[str]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            *(dg.TableColumn(name, "string") for name in text),
            *(dg.TableColumn(name, "int") for name in numbers),
        ]
    )


_CLASSES_SCHEMA: Final = _table(
    ("measure", "class"), ("comparisons", "reported", "observed", "difference")
)
_WORST_SCHEMA: Final = _table(
    ("day", "user_id", "api_key_id", "measure", "class"), ("reported", "observed", "difference")
)
_TOTALS_SCHEMA: Final = _table(("day", "measure"), ("ours", "api", "difference"))


def _records(compared: Mapping[str, Sequence[Comparison]]) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "day": one.day.isoformat(),
                "measure": f"{endpoint} {name}" if endpoint else name,
                "ours": one.ours.get(name, 0),
                "api": one.api.get(name, 0),
                "difference": one.ours.get(name, 0) - one.api.get(name, 0),
            }
        )
        for endpoint, found in compared.items()
        for one in found[:_SHOWN]
        for name in (sorted({*one.ours, *one.api}) if endpoint else MEASURES)
    ]


def _difference(endpoint: str, differing: Sequence[Comparison]) -> str:
    days = in_words([comparison.day for comparison in differing])
    tables = "usage_1d, or the hours of usage_1h"
    if endpoint:
        tables = f"{endpoint} in meters_1d, or the hours of meters_1h"
    return (
        f"{tables}, and the API's own buckets disagree on {days}. "
        "Load these days again; if they still disagree, the API contradicts itself."
    )


def _days(context: dg.AssetCheckExecutionContext, services: Services, table: str) -> list[date]:
    """The run's days, or all that have a table; what stands of them is here from now on."""
    days = days_of(context.run.tags)
    pulled(services, days or None)
    return days or services.lake.days(table)
