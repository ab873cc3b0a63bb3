"""The shared lake: the tables as Apache Iceberg, for workers side by side and other engines.

    place          where a shared lake is: its catalog and its warehouse
    errors         what can go wrong with it, each in one line
    base           what a home knows of it: which of its days it has, and since when
    shared         the shared lake itself: hydrate, commit, replace, files, verify, expire
    catalogs       Iceberg catalogs that commit several tables at once
    tables         each dataset as an Iceberg table: ids, comments, partitions, order
    table_change   the next snapshot of one table: files of some days replaced by others
    warehouse      the warehouse as engines see it that read and write it by themselves
    storage        files of the warehouse: put there, got, listed, removed
    locations      where a file of a day stands: by its table, its day and its hash
    published      what stands of each day: its manifest, which orders all commits
    hydrating      days of the shared lake become versions of a home's own lake
    pulling        a home becomes a copy of what stands
    committing     versions of a home become the days of the shared lake, all at once
    rewriting      a published day with other files of some of its tables
    committed      work on all days of a home that shares its lake: hydrated before, committed after
    telling        who was forgotten, as all workers know it
    verifying      whether the files are what their manifests say
    expiring       what no reader of the last day needs is removed

Nothing here is imported without the extra `shared` but `place`, `errors` and `base`.
docs/shared-lake.md says how it is used, docs/design.md why no commit is ever seen in part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.shared_lake.base import Copy, copied
from pipeline.shared_lake.errors import DaysMovedError, SharedLakeError
from pipeline.shared_lake.place import Place, place_of

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake

__all__ = [
    "Copy",
    "DaysMovedError",
    "Place",
    "SharedLakeError",
    "copied",
    "open_shared_lake",
    "place_of",
]


def open_shared_lake(place: Place) -> SharedLake:
    """The shared lake at a place, which is made there where it is not.

    SharedLakeError where the extra `shared` is not installed, or the catalog can't be used.
    """
    try:
        from pipeline.shared_lake.shared import SharedLake  # noqa: PLC0415  the extra is needed here
    except ModuleNotFoundError as error:
        raise SharedLakeError(
            f"{place.shown} needs {error.name}, which is not installed: "
            "pip install 'mka1-usage[shared]'"
        ) from None
    return SharedLake(place)
