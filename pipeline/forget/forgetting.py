"""The steps of forgetting somebody, in their order; each can be done twice.

First it is noted, so that no load that begins from then on writes the id. Then the tables, then
all that was made of them, then the records of runs. The search comes last, and what it says counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from filelock import Timeout

from pipeline.forget import leftovers
from pipeline.forget.database import Database
from pipeline.forget.days import redo_days
from pipeline.forget.person import Person
from pipeline.forget.search import Searched
from pipeline.lake import forgotten
from pipeline.lake.catalog import build_catalog, names_of, prices_of
from pipeline.lake.store import Lake
from pipeline.messages import count
from pipeline.shared_lake.committed import committed

if TYPE_CHECKING:
    from pipeline.shared_lake.shared import SharedLake

_TIMES: Final = 3
"""How often the tables are gone through, where runs publish at the same time."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where all that is kept stands.

    `records`: folders of Dagster beside its home; `databases`: what it keeps on servers; `written`:
    what people write themselves, which is searched and left to them.
    """

    home: Path
    catalog: Path
    export_dir: Path
    dagster_home: Path
    records: tuple[Path, ...] = ()
    databases: tuple[Database, ...] = ()
    written: tuple[Path, ...] = ()
    shared: SharedLake | None = None

    @property
    def folders(self) -> list[Path]:
        """The folders that are searched, none of them below another."""
        parts = (self.home / "lake", self.home / leftovers.MESSAGES)  # which can be links
        found = (self.home, *parts, self.export_dir, self.dagster_home, *self.records)
        every = {path.resolve() for path in found}
        if self.shared is not None and self.shared.is_folder:
            every.add(Path(self.shared.place.warehouse).resolve())
        return sorted(path for path in every if not any(other in path.parents for other in every))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done. `name`: what the person is called now."""

    name: str
    days: tuple[date, ...]
    removed: tuple[Path, ...]
    rewritten: tuple[Path, ...]
    searched: Searched

    @property
    def proven(self) -> bool:
        """Whether everything was read again, and nothing names the person."""
        return not self.searched.found and not self.searched.unread


def forget(
    lake: Lake, places: Places, person: Person, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Take a person out of all that is kept in `places`, and search it; `say` gets each step.

    Whoever is killed on the way calls it again. Raises OSError, duckdb.Error, sqlite3.Error where
    something can't be written or read, SQLAlchemyError where a database can't be used,
    UserIdModeError where the list of the forgotten can't be read, SharedLakeError where the shared
    lake can't be used.
    """
    with _held(lake, "forget", say):
        if places.shared is not None:  # another home may have given them a name already
            places.shared.tell_forgotten(lake)
        name = forgotten.begin(lake, person.stored_id)
        say(f"from now on loads write {name}")
        days = _forget_tables(lake, places, person, name, say)
        with lake.staging():  # sweeps what killed processes left
            pass
        build_catalog(
            lake,
            places.catalog,
            on_set_aside=lambda folder: say(f"kept, what a client put into the catalog: {folder}"),
            prices=prices_of(places.catalog),
            names=_names_of_others(places.catalog, person),
        )
        removed = leftovers.forget_outputs(places.home, places.export_dir, person)
        for path in removed:
            say(f"removed, to be made anew: {path}")
        folders = (places.dagster_home, *places.records)
        rewritten = leftovers.forget_records(lake, places.home, folders, person, name)
        if rewritten:
            say(f"{count(len(rewritten), 'file')} of records and logs rewritten")
        for database in places.databases:
            say(f"{database.shown}: {count(database.rename(person, name), 'row')} rewritten")
        searched = _search(lake, places, person, say)
        outcome = Outcome(name, tuple(days), tuple(removed), tuple(rewritten), searched)
        if outcome.proven:
            forgotten.finish(lake, person.stored_id)
        return outcome


def _names_of_others(catalog: Path, person: Person) -> pa.Table | None:
    """The names in a catalog, without those that name the person, as their file may still do."""
    names = names_of(catalog)
    if names is None:
        return None
    others = [not any(map(person.is_in, filter(None, row.values()))) for row in names.to_pylist()]
    return names.filter(pa.array(others, pa.bool_()))


def _search(lake: Lake, places: Places, person: Person, say: Callable[[str], None]) -> Searched:
    """Read all of it again, the shared lake last, which other workers write to."""
    searched = Searched()
    say(f"searching {', '.join(map(str, places.folders))}")
    searched.read_folders(places.folders, person)
    for path in places.written:
        searched.read_file(path.resolve(), person)
    for database in places.databases:
        say(f"searching {database.shown}")
        searched.note("database", (f"{database.shown}: {it}" for it in database.naming(person)))
    if places.shared is not None:
        places.shared.tell_forgotten(lake)  # as another home may have told of somebody meanwhile
        if not places.shared.is_folder:
            say(f"searching {places.shared.place.warehouse}")
            with lake.staging() as folder:
                for location, copy in places.shared.copies(folder):
                    searched.read_file(copy, person, named=location, shown=location)
    return searched


def _forget_tables(
    lake: Lake, places: Places, person: Person, name: str, say: Callable[[str], None]
) -> Sequence[date]:
    done: set[date] = set()

    def waiting() -> None:
        say("other runs of this home are at work: waiting until they are done")

    def tell(shared: SharedLake) -> None:
        shared.tell_forgotten(lake)

    with committed(places.shared, lake, waiting, tell), _held(lake, "sync", say):
        leftovers.forget_pages(lake)
        leftovers.forget_state(lake, person, name)
        for _ in range(_TIMES):
            with _held(lake, "records", say):
                days = redo_days(lake, person, name, lambda day: say(f"{day}: redone"))
            done |= {*days}
            if not days:
                break
    if places.shared is not None:
        say("removing what the shared lake had before")
        places.shared.expire_replaced()
    return sorted(done)


@contextmanager
def _held(lake: Lake, lock: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock of the lake; say so where it is waited for."""
    held = lake.lock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        say("another run is at work: waiting until it is done")
        held.acquire()
    try:
        yield
    finally:
        held.release()
