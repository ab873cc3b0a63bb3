"""Who was forgotten, as all workers know it: a property of the table that orders all commits.

Belongs here: telling others, learning from them, and refusing days that would bring somebody back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.update import SetPropertiesUpdate

from pipeline.lake import forgotten
from pipeline.lake.store import Lake
from pipeline.shared_lake import tables
from pipeline.shared_lake.catalogs import SharedCatalog, TableCommit
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.shared_lake.table_change import still_at
from pipeline.shared_lake.tables import PUBLISHED_DAYS

_FORGOTTEN: Final = "mka1-usage.forgotten"
"""The property."""
_TRIES: Final = 10
"""How often it is written anew where others commit at the same moment."""


def property_of(lake: Lake) -> dict[str, str]:
    """The property as a home has it: none where nobody was forgotten."""
    known = forgotten.forgotten(lake)
    return {_FORGOTTEN: known.public} if known else {}


def learn(lake: Lake, table: Table) -> bool:
    """Take over who was forgotten elsewhere; whether somebody is new here.

    SharedLakeError where the property is none of ours.
    """
    told = table.properties.get(_FORGOTTEN)
    try:
        return told is not None and forgotten.learn(lake, told)
    except ValueError as error:
        raise SharedLakeError(
            f"{PUBLISHED_DAYS.name} does not say who was forgotten ({error}): put its property "
            f"{_FORGOTTEN} back"
        ) from None


def tell(catalog: SharedCatalog, lake: Lake) -> None:
    """Let all workers know who was forgotten here, beside those whom they know of.

    SharedLakeError where other workers commit all the time.
    """
    for _ in range(_TRIES):
        table = tables.load(catalog, PUBLISHED_DAYS.name)
        if table is None:
            return
        learn(lake, table)
        ours = property_of(lake)
        if not ours or table.properties.get(_FORGOTTEN) == ours[_FORGOTTEN]:
            return
        same = still_at(table.metadata.current_snapshot_id)
        with suppress(CommitFailedException):  # it is no more what was learned from
            catalog.commit_together(
                [TableCommit(table, (same,), (SetPropertiesUpdate(updates=ours),))]
            )
    raise SharedLakeError(
        f"{PUBLISHED_DAYS.name}: other workers commit all the time; run the same again later"
    )


def require_unnamed(lake: Lake, versions: Mapping[date, Path]) -> None:
    """Raise SharedLakeError where a day has rows of somebody who was forgotten by another worker
    while it was loaded here."""
    known = forgotten.forgotten(lake)
    for day, version in versions.items():
        if forgotten.names_forgotten(known, version):
            raise SharedLakeError(
                f"somebody who was forgotten in the shared lake has rows on {day}, so it is not "
                "committed: run `mka1-usage forget USER` in this home too"
            )
