"""Hours and days of the shared lake, made of its minutes: any number of days, in one commit.

Belongs here: which days, what their files must be to be committed, and what becomes of results that
an engine wrote. Equal rows make equal bytes, whichever engine counted them, and what stands already
is not committed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.apart import is_apart
from pipeline.lake import engine, files
from pipeline.lake.manifest import FileEntry, describe
from pipeline.lake.schemas import MEASURES, USAGE, Dataset
from pipeline.lake.store import Lake
from pipeline.shared_lake.errors import DaysMovedError
from pipeline.timeline import Width, Window, in_words
from pipeline.usage.rollup import widen

if TYPE_CHECKING:
    from pipeline.shared_lake.published import Standing
    from pipeline.shared_lake.shared import SharedLake
    from pipeline.shared_lake.warehouse import Warehouse

WIDTHS: Final[tuple[Width, ...]] = ("1h", "1d")
"""What is made of minutes."""
_TRIES: Final = 3
"""How often days are rolled up where other workers commit them at the same time."""
_AT_ONCE: Final = 16
_MINUTES: Final = USAGE["1m"]
_ORDER: Final = ("start_time", "user_id", "api_key_id")


class RollupError(Exception):
    """Nothing was committed. One line, with what to do."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a roll-up did: its days, how many rows of each width they have, and those days that
    stand otherwise now."""

    days: list[date]
    rows: dict[str, int]
    changed: list[date]


@dataclass(frozen=True, slots=True)
class Minutes:
    """A day's minutes in the shared lake: where they are, and what their manifest says."""

    place: str
    window: Window
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be rolled up. `lake` says how much memory queries may use; `folder` is for files
    on its disk, and gone afterwards."""

    warehouse: Warehouse
    minutes: Mapping[date, Minutes]
    lake: Lake
    folder: Path


Files = Mapping[Width, Path]
Compute = Callable[[Work], Iterator[tuple[date, Files]]]
"""Makes the files of hours and days of each day; the days may come in any order."""


def roll_up(
    shared: SharedLake, compute: Compute, first: date | None, last: date | None, lake: Lake
) -> Rolled:
    """Make the hours and days of those that are published, from `first` through `last`, and commit
    what is new. None: from the first on, or through the last.

    It is done again where another worker has committed one of the days meanwhile. `lake` is the
    home's own, for scratch. RollupError where there is nothing to roll up, where what was counted
    does not have the sums of the minutes, or where other workers were faster each time;
    SharedLakeError and SparkError where these fail. Nothing is committed then.
    """
    for _ in range(_TRIES):
        try:
            return _roll_up_once(shared, compute, first, last, lake)
        except DaysMovedError as error:
            moved = error.days
    raise RollupError(
        f"{in_words(moved)}: committed by another worker each of {_TRIES} times that they were "
        "rolled up, so nothing was committed: run the same again when fewer workers load these days"
    )


def _roll_up_once(
    shared: SharedLake, compute: Compute, first: date | None, last: date | None, lake: Lake
) -> Rolled:
    published = shared.days()
    days = [it for it in published if (first or it) <= it <= (last or it) and not is_apart(it)]
    standing = shared.standing(days) if days else {}
    minutes = _minutes(shared.warehouse, standing)
    if not minutes:
        there = f"it has {in_words(published)}" if published else "it has none yet"
        raise RollupError(
            f"none of these days is loaded in the shared lake {shared.place.shown}: {there}"
        )
    with lake.staging() as folder:
        return _rolled(shared, compute, standing, Work(shared.warehouse, minutes, lake, folder))


def _rolled(
    shared: SharedLake, compute: Compute, standing: Mapping[date, Standing], work: Work
) -> Rolled:
    minutes = work.minutes
    new: dict[date, dict[str, Path]] = {}
    rows = dict.fromkeys((USAGE[width].name for width in WIDTHS), 0)
    done: set[date] = set()
    for day, made in compute(work):
        known = standing[day].manifest
        for width, path in made.items():
            dataset = USAGE[width]
            entry = describe(dataset, path)
            _check_sums(day, dataset, entry, minutes[day].entry)
            rows[dataset.name] += entry.rows
            if known.files.get(dataset.name) == entry:
                path.unlink()
            else:
                new.setdefault(day, {})[dataset.name] = path
        done.add(day)
    if absent := minutes.keys() - done:
        raise RollupError(f"{in_words(absent)}: not rolled up, so nothing was committed")
    changed = shared.replace(new, {day: standing[day] for day in new}) if new else []
    return Rolled(sorted(minutes), rows, changed)


def _minutes(warehouse: Warehouse, standing: Mapping[date, Standing]) -> dict[date, Minutes]:
    def look_up(day: date) -> Minutes:
        entry = standing[day].manifest.files[_MINUTES.name]
        named = (_MINUTES.name, day, entry.sha256)
        return Minutes(warehouse.place(*named), warehouse.window(*named), entry)

    loaded = [day for day, of in standing.items() if _MINUTES.name in of.manifest.files]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(loaded, pool.map(look_up, loaded), strict=True))


def _check_sums(day: date, dataset: Dataset, found: FileEntry, minutes: FileEntry) -> None:
    for measure in MEASURES:
        if found.sums[measure] != minutes.sums[measure]:
            raise RollupError(
                f"{day}: {dataset.name} came to {found.sums[measure]:,} {measure}, and its minutes "
                f"have {minutes.sums[measure]:,}, so nothing was committed: `mka1-usage verify` "
                "says whether the minutes are damaged"
            )


def on_duckdb(work: Work) -> Iterator[tuple[date, Files]]:
    """Count on this machine, day by day, with the code that loads a day."""
    minutes = work.folder / f"{_MINUTES.name}.parquet"
    with closing(engine.connect(work.lake)) as con:
        for day, of in work.minutes.items():
            work.warehouse.fetch(_MINUTES.name, day, of.entry.sha256, minutes)
            made: dict[Width, Path] = {}
            narrower, source = _MINUTES, minutes
            for width in WIDTHS:
                made[width] = work.folder / f"{day}-{width}.parquet"
                widen(con, width, narrower, source, made[width], of.window)
                narrower, source = USAGE[width], made[width]
            yield day, made


class _UnsortedError(Exception):
    """Rows are not in the contract's order."""


def as_contract(
    lake: Lake, dataset: Dataset, parts: list[Path], path: Path, window: Window
) -> None:
    """Write the rows of files of any engine as a file of the contract, in the contract's order.

    They are sorted where they are not, or where they are in several files.
    """
    if len(parts) <= 1:
        try:
            files.write(dataset, _in_order(dataset, parts), path, window)
            return
        except _UnsortedError:
            pass
    order = ", ".join(f"{name} NULLS FIRST" for name in _ORDER)
    with closing(engine.connect(lake)) as con:
        rows = con.sql(f"{engine.scan(dataset, parts)} ORDER BY {order}")
        files.write(dataset, rows.to_arrow_reader(files.ROW_GROUP), path, window)


def _in_order(dataset: Dataset, parts: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    """The rows of files as the contract has them; _UnsortedError once two are out of order."""
    last: pa.Table | None = None
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(files.ROW_GROUP, columns=dataset.schema.names):
                rows = pa.table(batch).select(dataset.schema.names).cast(dataset.schema)
                check = rows if last is None else pa.concat_tables([last, rows])
                if not is_sorted(check.select(list(_ORDER))):
                    raise _UnsortedError
                last = rows.slice(rows.num_rows - 1)
                yield from rows.to_batches()


def is_sorted(rows: pa.Table) -> bool:
    """Whether rows ascend by their columns, the first first, NULL before all else."""
    earlier, later = rows.slice(0, max(rows.num_rows - 1, 0)), rows.slice(1)
    ascends = pa.array([True] * later.num_rows, pa.bool_())  # equal rows are in order
    for name in reversed(rows.column_names):
        before, after = earlier[name].combine_chunks(), later[name].combine_chunks()
        neither = pc.and_(pc.is_null(before), pc.is_null(after))
        same = pc.or_(neither, pc.fill_null(pc.equal(before, after), False))
        less = pc.or_(
            pc.and_(pc.is_null(before), pc.is_valid(after)),
            pc.fill_null(pc.less(before, after), False),
        )
        ascends = pc.or_(less, pc.and_(same, ascends))
    return bool(pc.all(ascends, min_count=0).as_py())
