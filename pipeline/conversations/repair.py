"""Damaged files of the conversations' side are taken out, and the day owes what they held.

A file that can't be read can be neither merged with nor queried. The commit that takes it out notes
what the day owes: rows are read again by the next sync over the day, what is derived is computed
again. Until then `coverage` and `verify` say that the day is not complete. What is derived of items
that are dropped can't be computed again: then the day is to keep its items again, and to be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date

import duckdb

from pipeline.lake.commit import Change, publish_days
from pipeline.lake.damage import damaged
from pipeline.lake.manifest import Manifest, Work, manifest_of
from pipeline.lake.schemas import ITEMS, OBSERVED_DATASETS, RECONCILIATION, RECORD_DATASETS
from pipeline.lake.snapshot import Damage
from pipeline.lake.store import Lake

_OURS = {*RECORD_DATASETS, *OBSERVED_DATASETS, RECONCILIATION.name}


def take_out_damage(
    con: duckdb.DuckDBPyConnection, lake: Lake, days: Iterable[date], *, thorough: bool = False
) -> list[Damage]:
    """Take damaged files out of `days`, and note what the days owe for it; returns what was wrong.

    `thorough` reads every file of the days. The caller holds the lock `records`.
    Raises what `publish_days` raises.
    """
    found: list[Damage] = []
    changes: dict[date, Change] = {}
    for day in sorted(set(days)):
        version = lake.version(day)
        if version is None:
            continue
        wrong = {
            name: what
            for name, what in damaged(version, thorough=thorough).items()
            if name in _OURS
        }
        if wrong:
            found += (
                Damage(day, version / f"{name}.parquet", what) for name, what in wrong.items()
            )
            changes[day] = _change(manifest_of(version), set(wrong))
    if changes:
        publish_days(con, lake, changes)
    return found


def is_observed(record: Manifest) -> bool:
    """Whether a day has observed buckets, or had them and owes them."""
    return "observe" in record.owed or bool(OBSERVED_DATASETS.keys() & record.files.keys())


def _change(record: Manifest, lost: set[str]) -> Change:
    if ITEMS.name in record.dropped and not lost <= RECORD_DATASETS.keys():
        kept = {*record.dropped} - {ITEMS.name}
        return Change(removed=lost, dropped=kept, owes={"read", "observe", "reconcile"})
    return Change(removed=lost, owes=_owed(record, lost))


def _owed(record: Manifest, lost: Collection[str]) -> set[Work]:
    owed: set[Work] = set()
    if RECORD_DATASETS.keys() & set(lost):
        owed.add("read")
    if is_observed(record) and (RECORD_DATASETS | OBSERVED_DATASETS).keys() & set(lost):
        owed.add("observe")
    if RECONCILIATION.name in record.files:
        owed.add("reconcile")
    return owed
