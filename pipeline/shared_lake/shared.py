"""The shared lake itself: what a worker and a reader do with it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final

from pyiceberg.exceptions import RESTError
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from requests import RequestException
from sqlalchemy.exc import DBAPIError

from pipeline.lake import user_id_mode
from pipeline.lake.manifest import manifest_from
from pipeline.lake.store import MANIFEST, Lake
from pipeline.shared_lake import published, storage, tables, telling
from pipeline.shared_lake.base import DayBase, note_days, read_base
from pipeline.shared_lake.catalogs import NAME, SharedCatalog, file_properties, open_catalog
from pipeline.shared_lake.committing import Committed, Committing, DayToCommit
from pipeline.shared_lake.errors import SharedLakeError
from pipeline.shared_lake.expiring import Expired, expire
from pipeline.shared_lake.hydrating import hydrate
from pipeline.shared_lake.place import Place
from pipeline.shared_lake.published import Standing
from pipeline.shared_lake.rewriting import rewritten
from pipeline.shared_lake.table_change import files_by_day
from pipeline.shared_lake.tables import PUBLISHED_DAYS
from pipeline.shared_lake.verifying import SharedProblem, verify
from pipeline.shared_lake.warehouse import Warehouse
from pipeline.timeline import DAY

_USER_IDS: Final = "mka1-usage.user-ids"
"""The property of `published_days` that says whose ids the tables hold."""
_PLAIN: Final = "as they are"


class SharedLake:
    """Tables in an Iceberg catalog, and their files in a warehouse.

    All methods raise SharedLakeError, in one line, where either can't be used.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        properties = file_properties(place)
        self._io = PyArrowFileIO(properties)
        self._root = f"{properties['warehouse']}/{NAME}"
        self.warehouse = Warehouse(self._io, self._root)
        with self._reaching():
            self._catalog = open_catalog(place, properties)

    @property
    def commits_together(self) -> bool:
        """Whether readers see all tables of a commit change at one moment."""
        return self._catalog.commits_together

    def days(self) -> list[date]:
        """The days that are published, in order."""
        with self._reaching():
            return list(published.names(self._catalog))

    def other_columns(self) -> dict[str, tuple[list[str], list[str]]]:
        """Tables that are not of the contract: columns that they lack, and those that differ."""
        with self._reaching():
            return tables.other_columns(self._catalog)

    def standing(self, days: Iterable[date] | None = None) -> dict[date, Standing]:
        """What stands of days (None: all that are published), in order."""
        with self._reaching():
            return published.read(self._catalog, days)

    def files(self, dataset: str, days: Iterable[date] | None = None) -> dict[date, str]:
        """Where each day's file of a dataset is (of all days by default): a path, or s3://….

        Days whose file has no rows are left out.
        """
        with self._reaching():
            table = tables.load(self._catalog, dataset)
            found = {} if table is None else files_by_day(table, days)
        return {day: storage.shown(it.file_path) for day, it in found.items() if it.record_count}

    def hydrate(
        self, lake: Lake, days: Iterable[date] | None = None, *, damaged: bool = False
    ) -> list[date]:
        """Let what stands of days (None: all) be their local versions; returns which changed.

        A day that still stands as it was hydrated keeps what has become of it here since. A file
        that is not what its manifest says is an error; with `damaged` it is missing here, for those
        who load its day again.
        """
        asked = None if days is None else sorted(set(days))
        began = time.time()
        with self._reaching():
            _claim(self._catalog, self.place.shown, lake)
            changed = hydrate(
                *(self._catalog, self._io, self._root, self.place.shown, lake, asked),
                damaged=damaged,
            )
        if asked is None:
            note_days(lake, self.place.shown, {}, pulled_at=began)
        return changed

    def commit(
        self, lake: Lake, days: Iterable[date] | None = None, *, put_all: bool = False
    ) -> list[date]:
        """Commit the days (None: of all) that have changed here since they were hydrated; returns
        those that stand otherwise now.

        Of such days only new files are put into the warehouse; with `put_all` all are, for those
        that are damaged there. DaysMovedError where another worker has committed one of them
        meanwhile: then none is.
        """
        known = read_base(lake)
        base = known.days if known is not None and known.catalog == self.place.shown else {}
        versions = {
            day: version
            for day, version in lake.versions_at_once(days).items()
            if day not in base or base[day].version != version.name
        }
        if not versions:
            return []

        def check(table: Table) -> None:
            """Somebody may have been forgotten since the days were looked at."""
            if telling.learn(lake, table):
                telling.require_unnamed(lake, versions)

        with self._reaching():
            _claim(self._catalog, self.place.shown, lake)
            telling.require_unnamed(lake, versions)
            committed = self._committed(
                lake,
                {
                    day: _to_commit(version, base[day].published if day in base else None, put_all)
                    for day, version in versions.items()
                },
                check,
            )
        ours = {day: DayBase(committed.names[day], it.name) for day, it in versions.items()}
        note_days(lake, self.place.shown, ours)
        return committed.changed

    def replace(
        self,
        files: Mapping[date, Mapping[str, Path]],
        made_of: Mapping[date, Standing] | None = None,
    ) -> list[date]:
        """Give published days other files of some datasets, in one commit, without hydrating them;
        returns the days that stand otherwise now.

        The files are of the contract. `made_of` is what stood of these days when the files were
        made of it; None: what stands now. DaysMovedError as `commit`.
        """
        with self._reaching(), tempfile.TemporaryDirectory(prefix="mka1-usage-") as folder:
            standing = published.read(self._catalog, files) if made_of is None else made_of
            standing = {day: of for day, of in standing.items() if day in files}
            if missing := sorted(set(files) - set(standing)):
                raise SharedLakeError(f"{missing[0]} is not published: load it first")
            changed: dict[date, DayToCommit] = {}
            for day, of in standing.items():
                scratch = Path(tempfile.mkdtemp(dir=folder))
                new = rewritten(self._io, self._root, day, of.manifest, files[day], scratch)
                if new is not None:
                    changed[day] = DayToCommit(*new, based_on=of.name)
            if changed:
                self._committing(Path(folder), {}).commit(changed)
        return sorted(changed)

    def verify(self, days: Iterable[date] | None = None) -> Iterator[SharedProblem]:
        """What is not as it was published, of days (None: all): every file is read again."""
        with self._reaching():
            yield from verify(self._catalog, self._io, self._root, days)

    def expire(self, now: float) -> Expired:
        """Remove what no reader of the last day before `now` (Unix seconds) needs."""
        with self._reaching():
            return expire(self._catalog, self._io, self._root, now)

    @property
    def is_folder(self) -> bool:
        """Whether the warehouse is a folder of this machine."""
        return "://" not in self.place.warehouse

    def copies(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Every file of the warehouse as other programs name it, and a copy of it in `folder`,
        which is there until the next one is asked for.

        All that is below the tables' folders, and results that an engine has left beside them.
        """
        with self._reaching():
            found = (tables.load(self._catalog, name) for name in tables.TABLES)
            own = [table.location().rstrip("/") for table in found if table is not None]
            yield from storage.copies(self._io, self.warehouse.stored(own), folder)

    def tell_forgotten(self, lake: Lake) -> None:
        """Let all workers know who was forgotten in the home, beside those whom they know of."""
        with self._reaching():
            _claim(self._catalog, self.place.shown, lake)
            telling.tell(self._catalog, lake)

    def expire_replaced(self) -> Expired:
        """Remove all that was replaced, whoever reads it, and what no table refers to.

        A commit of another worker that is under way fails, and is done again.
        """
        with self._reaching():
            return expire(self._catalog, self._io, self._root, time.time(), kept_seconds=-DAY)

    def _committed(
        self, lake: Lake, days: Mapping[date, DayToCommit], check: Callable[[Table], None]
    ) -> Committed:
        claimed = user_id_mode.claimed(lake)
        whose = _PLAIN if claimed is None or claimed[0] is None else claimed[0]
        with lake.staging() as folder:
            properties = {_USER_IDS: whose, **telling.property_of(lake)}
            return self._committing(folder, properties, check).commit(days)

    def _committing(
        self,
        folder: Path,
        properties: Mapping[str, str],
        check: Callable[[Table], None] = lambda _: None,
    ) -> Committing:
        return Committing(self._catalog, self._io, self._root, properties, folder, check)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """What fails on the way to the catalog or the warehouse is one line."""
        try:
            yield
        except (DBAPIError, RESTError, RequestException) as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            raise SharedLakeError(
                f"the catalog {self.place.shown} can't be used ({reason[:300]}): `mka1-usage "
                "doctor` says what to do"
            ) from error
        except OSError as error:
            reason = " ".join(str(error).split())
            raise SharedLakeError(
                f"the warehouse {self.place.warehouse} can't be used ({reason[:300]}): "
                "`mka1-usage doctor` says what to do"
            ) from error


def _claim(catalog: SharedCatalog, shown: str, lake: Lake) -> None:
    """See to it that the home holds ids of the kind that the shared lake, `shown`, has, and of
    nobody who was forgotten there."""
    table = tables.load(catalog, PUBLISHED_DAYS.name)
    if table is None:
        return
    telling.learn(lake, table)
    theirs = table.properties.get(_USER_IDS)
    if theirs is None:
        return
    wanted = None if theirs == _PLAIN else theirs
    ours = user_id_mode.claimed(lake)
    if ours is None and not lake.all_days():
        user_id_mode.claim(lake, wanted)
    elif ours != (wanted,):
        raise SharedLakeError(
            f"{shown} has user ids {_words(wanted)}, and {lake.root} "
            f"{_words(ours[0] if ours else None)}: set MKA1_USAGE_HOME to another folder"
        )


def _to_commit(version: Path, based_on: str | None, put_all: bool) -> DayToCommit:
    try:
        text = (version / MANIFEST).read_text(encoding="utf-8")
        names = manifest_from(text).files
    except (OSError, ValueError) as error:
        raise SharedLakeError(
            f"{version / MANIFEST} is no manifest ({error}): `mka1-usage verify` says how to fix it"
        ) from None
    paths = {name: version / f"{name}.parquet" for name in names}
    return DayToCommit(text, paths, based_on, put_all)


def _words(fingerprint: str | None) -> str:
    if fingerprint is None:
        return "as they are"
    return f"as pseudonyms of the key of fingerprint {fingerprint}"
