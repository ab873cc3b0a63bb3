"""The blocking checks over what is published: the contract, the sums, and the API's own totals.

A run checks the days that it is about; a check that is started alone checks all that is loaded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from typing import Final

import dagster as dg
import duckdb
import pyarrow as pa

from pipeline.api import ApiError
from pipeline.lake import consistency, engine
from pipeline.lake.files import ContractError
from pipeline.lake.schemas import DATASETS, MEASURES, USAGE_DATASETS
from pipeline.lake.snapshot import Snapshot, reason
from pipeline.messages import count
from pipeline.orchestration.assets.usage import API_POOL
from pipeline.orchestration.partitions import days_of
from pipeline.orchestration.resources import Services
from pipeline.query.reconciliation import summary, worst
from pipeline.settings import SettingsError
from pipeline.timeline import closed_through, day_of, in_words, trailing_days
from pipeline.usage.totals_check import Comparison, compare_days

_SHOWN: Final = 20


_TABLE_CHECKS: Final[Mapping[str, tuple[str, Iterable[str]]]] = {
    "schema_as_contracted": ("Columns, types and order are the contract's.", DATASETS),
    "grain_unique": ("One row per bucket and group.", consistency.GROUPED),
    "counts_not_negative": ("No count is below zero.", consistency.COUNTED),
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
"""What each check says, and of which tables."""


@dg.multi_asset_check(
    name="check_tables",
    specs=[
        dg.AssetCheckSpec(check, asset=table, description=description, blocking=True)
        for check, (description, tables) in _TABLE_CHECKS.items()
        for table in tables
    ],
    can_subset=True,
)
def check_tables(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> Iterator[dg.AssetCheckResult]:
    """The checks that need no API."""
    days = _days(context, services)
    snapshot = Snapshot(services.lake)
    files = {name: snapshot.published(name, days) for name in DATASETS}
    with closing(engine.connect()) as con:
        for key in sorted(context.selected_asset_check_keys):
            asset = key.asset_key.to_user_string()
            found: Sequence[object]
            try:
                found = _find(con, snapshot, key.name, {asset: files[asset]}, files)
            except (duckdb.Error, pa.ArrowException, OSError) as error:
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
    all_files: consistency.Files,
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
            return consistency.rollups(con, {name: all_files[name] for name in USAGE_DATASETS})
        case _:
            return consistency.totals(con, {name: all_files[name] for name in USAGE_DATASETS})


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
    """Two cheap requests for the days that are over, one more for the open day."""
    days = _days(context, services)
    try:
        compared = compare_days(services.connect, services.lake, days)
    except (ApiError, SettingsError) as error:
        raise dg.Failure(str(error)) from error
    except (ContractError, pa.ArrowException, duckdb.Error) as error:
        return dg.AssetCheckResult(
            passed=False,
            description=f"usage can't be read as it was published: {reason(services.lake, error)}",
        )
    differing = [comparison for comparison in compared if not comparison.agrees]
    today = day_of(closed_through(services.clock()))
    still_moving, _ = trailing_days(today, services.settings.lookback_days)
    settled = any(comparison.day < still_moving for comparison in differing)
    return dg.AssetCheckResult(
        passed=not differing,
        severity=dg.AssetCheckSeverity.ERROR if settled else dg.AssetCheckSeverity.WARN,
        description=_difference(differing) if differing else None,
        metadata={
            "days": in_words([comparison.day for comparison in compared]),
            "totals": dg.MetadataValue.table(
                records=_records(differing or compared), schema=_TOTALS_SCHEMA
            ),
        },
    )


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
    seen = Snapshot(services.lake, days_of(context.run.tags) or None, names={"reconciliation"})
    days = seen.days("reconciliation")
    with closing(engine.connect()) as con:
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


def _records(compared: Sequence[Comparison]) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "day": comparison.day.isoformat(),
                "measure": name,
                "ours": comparison.ours.get(name, 0),
                "api": comparison.api.get(name, 0),
                "difference": comparison.ours.get(name, 0) - comparison.api.get(name, 0),
            }
        )
        for comparison in compared[:_SHOWN]
        for name in MEASURES
    ]


def _difference(differing: Sequence[Comparison]) -> str:
    days = in_words([comparison.day for comparison in differing])
    return (
        f"usage_1d, or the hours of usage_1h, and the API's own buckets disagree on {days}. "
        "Load these days again; if they still disagree, the API contradicts itself."
    )


def _days(context: dg.AssetCheckExecutionContext, services: Services) -> list[date]:
    return days_of(context.run.tags) or services.lake.days("usage_1d")
