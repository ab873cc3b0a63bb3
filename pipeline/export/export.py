"""An export from beginning to end: what is asked for, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.apart import UNDATED
from pipeline.export import dictionary
from pipeline.export.files import (
    Dialect,
    Format,
    digest,
    write_csv,
    write_database,
    write_parquet,
)
from pipeline.export.folder import Folder, FolderError, Readers, Replaced, opened
from pipeline.export.rows import Lacking, Rows, Selection
from pipeline.export.tables import (
    DEFAULT,
    DIM_TEAM,
    FACT_COSTS,
    FACT_TOKENS,
    FOCUS_COSTS,
    STAR_OF_TOKENS,
    TABLES,
    Labels,
    Table,
    UnknownTableError,
    by_team,
    chosen,
    with_names,
)
from pipeline.export.workbook import NO_LABELS, About, write_workbook
from pipeline.lake import engine, user_id_mode
from pipeline.lake.catalog import PRICES
from pipeline.lake.schemas import COST_DATASETS, METER_DATASETS, USAGE
from pipeline.lake.shortage import shortage
from pipeline.lake.snapshot import DamagedError, Snapshot, reason
from pipeline.lake.store import Lake
from pipeline.messages import be, count
from pipeline.names.file import Names
from pipeline.timeline import in_words, iso

DATABASE: Final = "mka1_usage.duckdb"
"""The one file with all tables of an export as DuckDB."""
WORKBOOK: Final = "mka1_usage.xlsx"
"""The one file with all of them as an Excel workbook."""


class ExportError(Exception):
    """There is nothing to export, or it can't be read or written. One line, with what to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    folder: Path
    days: list[date]
    """Every day that was asked for, loaded or not."""
    lacking: Lacking
    rows: dict[str, int]
    """Of each table."""
    sizes: dict[str, int]
    """Bytes of each file, by its name in the folder."""
    replaced: Replaced
    notes: list[str]
    """What a reader has to know of it, a sentence each."""


def export(
    lake: Lake,
    path: Path,
    tables: Sequence[str] = (),
    *,
    form: Format = "parquet",
    dialect: Dialect | None = None,
    by_day: bool = False,
    first: date | None = None,
    last: date | None = None,
    names: Names | None = None,
    readers: Readers = "owner",
    prices: pa.Table | None = None,
    on_table: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write tables of the lake into a folder: by default `pipeline.export.tables.DEFAULT`, and of
    STAR_OF_TOKENS what the lake has.

    One DuckDB file has all of the star, teams and what the lake has nothing of included: queries
    that stand in BI tools have an answer in every lake.

    Of the UTC days from `first` through `last`, all by default. `by_day` cuts Parquet into a file a
    day, of tables whose rows have one. `dim_user`, `dim_api_key` and `dim_model` are of the whole
    lake, with their real first and last usage. `dialect` is that of CSV. `prices` is the table of
    a price list: without one the cost of tokens is not known. `on_table` is called with each table
    before it is written.

    Nothing is written that the folder has already. Raises ExportError; UnknownTableError for a
    table that there is not, or days in another format than Parquet; FolderError where the folder is
    none to export to; OSError.
    """
    path = _checked(path.absolute(), lake, form, by_day=by_day)
    names, notes = _names(lake, names or Names())
    is_whole = form == "duckdb" and not tables
    wanted = _wanted(tables, names, is_whole=is_whole)
    selection = Selection(lake, first, last, wanted)
    lacked = [one.name for one in STAR_OF_TOKENS if not tables and not selection.has(one)]
    if not is_whole:
        wanted = {name: table for name, table in wanted.items() if name not in lacked}
    if selection.damage:
        raise ExportError(f"nothing is exported: {DamagedError(selection.damage)}")
    _check(lake, selection, [table for name, table in wanted.items() if name not in lacked])
    calendar = selection.span(wanted.values())
    try:
        lacking = selection.lacking(calendar)
        unread = selection.unread(calendar) if FACT_TOKENS.name in wanted else []
        notes += _absent(selection, wanted, lacked, unread)
        with opened(path, readers) as folder, closing(engine.connect(lake)) as con:
            listed = PRICES.empty_table() if prices is None else prices
            rows = Rows(con, selection, names, calendar, lacking, listed)
            notes += _unmatched(names, rows)
            parts: dict[str, dict[str, Path]] = {}
            counted: dict[str, int] = {}
            for name, table in wanted.items():
                on_table(name)
                parts[name], counted[name] = _parquet(
                    rows, selection, table, folder.staging, by_day=by_day
                )
            source = digest(path for files in parts.values() for path in files.values())
            about = About(calendar, lacking, tuple(notes))
            labels = rows.labels if form == "xlsx" else NO_LABELS  # which people read as it is
            shown = {name: with_names(table, labels) for name, table in wanted.items()}
            staged, places = _staged(
                con, shown, parts, form, dialect, folder, source, about, labels, notes.append
            )
            page = staged[dictionary.NAME] = folder.staging / dictionary.NAME
            said = dictionary.dictionary(shown, places, calendar, lacking, unread)
            page.write_text(said, encoding="utf-8")
            sizes = {name: file.stat().st_size for name, file in staged.items()}
            facts = {"format": form, "source": source, **_facts(calendar, lacking)}
            replaced = folder.replace(staged, {**facts, "rows": counted})
            notes += _kept(replaced.kept)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own; pyarrow raises one without a number for bytes that are garbage
        raise ExportError(
            shortage(error)
            or f"the export failed: {reason(lake, error)} (`mka1-usage verify` tells whether the "
            "lake is as it was published)"
        ) from None
    return Exported(path, calendar, lacking, counted, sizes, replaced, notes)


def _checked(path: Path, lake: Lake, form: Format, *, by_day: bool) -> Path:
    """The folder, where an export of that kind can go into it."""
    if lake.root in (path, *path.parents):
        raise FolderError(f"{path} is in the lake: name a folder outside {lake.root}")
    if by_day and form != "parquet":
        raise UnknownTableError(f"only Parquet is cut into days: a table is one thing in {form}")
    return path


def _wanted(tables: Sequence[str], names: Names, *, is_whole: bool) -> dict[str, Table]:
    """The tables that are asked for: with teams, where there are any or the star `is_whole`."""
    wanted = chosen(tables)
    if names.has_teams or is_whole:
        return {name: by_team(table) for name, table in wanted.items()}
    if DIM_TEAM.name in tables:
        raise ExportError(
            f"there is no {DIM_TEAM.name}: nobody is in a team (MKA1_USAGE_NAMES names the file "
            "that says who is)"
        )
    wanted.pop(DIM_TEAM.name, None)
    return wanted


def _facts(calendar: Sequence[date], lacking: Lacking) -> dict[str, object]:
    """The days of the export, for the manifest."""
    return {
        "first": f"{calendar[0]}",
        "last": f"{calendar[-1]}",
        "not_loaded": in_words(lacking.missing),
        "hours_not_kept": in_words(lacking.dropped),
        "loaded_in_part": {f"{day}": iso(through) for day, through in lacking.in_part.items()},
        "disputed": in_words(lacking.disputed),
    }


def _check(lake: Lake, selection: Selection, wanted: Iterable[Table]) -> None:
    """Raise ExportError where there is nothing to export."""
    if not selection.loaded:
        seen = selection.snapshot
        if any(seen.is_dropped(USAGE["1h"].name, day) for day in seen.versions):
            raise ExportError(
                f"no hour of {lake.root} is kept any more (MKA1_USAGE_KEEP_HOURS_DAYS), and "
                "exports are made of hours: `mka1-usage sql` has the days, in usage_1d"
            )
        raise ExportError(
            f"nothing is loaded in {lake.root}: load days with `mka1-usage run`, or set "
            "MKA1_USAGE_HOME to the folder that has them"
        )
    for table in wanted:
        if not selection.days_of(table):
            name = table.name
            if gone := selection.dropped(table):
                raise ExportError(
                    f"there is no {name} {selection.asked}: what it is made of is not kept any "
                    f"more of {in_words(gone)} (MKA1_USAGE_KEEP_*_DAYS), and "
                    "`mka1-usage export --table usage_1d` has the days"
                )
            hint = (
                "`mka1-usage run` loads conversations where MKA1_API_KEYS is set, and what they "
                "say with MKA1_USAGE_STORE_CONTENT=true"
            )
            if name in DEFAULT or not table.by_day:
                hint = (
                    f"usage is loaded of {in_words(selection.loaded)}, and `mka1-usage run` loads "
                    "more"
                )
            elif name in {FACT_COSTS.name, FOCUS_COSTS.name, *COST_DATASETS, *METER_DATASETS}:
                hint = "what the API bills and its other usage endpoints are not loaded by default"
            raise ExportError(f"there is no {name} {selection.asked}: {hint}")


def _names(lake: Lake, names: Names) -> tuple[Names, list[str]]:
    """The names that may be published, and a note where some are left out."""
    try:
        user_id_mode.check(lake, None)
    except user_id_mode.UserIdModeError:
        if names.users:
            names = names.under(None)
    if not names.withheld:
        return names, []
    return names, ["names of users are left out: this lake has pseudonyms, which they would undo"]


def _absent(
    selection: Selection, wanted: Collection[str], lacked: Collection[str], unread: Sequence[date]
) -> Iterator[str]:
    """Notes about rows that are not there. `lacked`: tables that the lake has no rows for."""
    yield from _undated(selection.snapshot, wanted)
    if FACT_TOKENS.name not in lacked:
        yield from _unread(unread)
    if FACT_TOKENS.name in wanted:
        yield from _without_cost(selection.without_cost())
    yield from _empty([name for name in lacked if name in wanted and TABLES[name].by_day])


def _undated(snapshot: Snapshot, wanted: Iterable[str]) -> Iterator[str]:
    """A note about records that are of no day."""
    found = {name: snapshot.loaded(name, UNDATED) for name in wanted}
    held = {name: loaded.rows for name, loaded in found.items() if loaded is not None}
    if rows := sum(held.values()):
        yield (
            f"{count(rows, 'row')} of {', '.join(held)} {be(rows)} of no day, since created_at is "
            "no possible time: left out, and there for `mka1-usage sql`"
        )


def _empty(names: Sequence[str]) -> Iterator[str]:
    """A note about tables that are there for queries alone."""
    if names:
        them = "them" if names[1:] else "it"
        yield f"{' and '.join(names)} {be(len(names))} empty: the lake has no rows for {them}"


def _unread(days: Sequence[date]) -> Iterator[str]:
    """A note about days without responses that are not known to have none."""
    if days:
        yield f"fact_tokens has nothing of days whose responses were not read: {in_words(days)}"


def _without_cost(days: Sequence[date]) -> Iterator[str]:
    """A note about days whose tokens are known, and whose cost is not."""
    if days:
        yield (
            f"fact_tokens has no cost of {in_words(days)}: it is computed by the minute, and the "
            "minutes are not kept any more (MKA1_USAGE_KEEP_MINUTES_DAYS)"
        )


def _kept(names: Sequence[str]) -> Iterator[str]:
    """A note about files that an export in another format wrote."""
    if names:
        more = f" and {len(names) - 1:,} more stay" if names[1:] else " stays"
        yield (
            f"{names[0]}{more} as an export in another format wrote them: export that format "
            "again to replace "
            f"{'them' if names[1:] else 'it'}"
        )


def _unmatched(names: Names, rows: Rows) -> Iterator[str]:
    """A note about names whose ids have no usage."""
    pairs = ((names.users, rows.users), (names.keys, rows.api_keys))
    if unknown := sum(
        len(given.keys() - {*ids.filter(ids.is_in([*given]))}) for given, ids in pairs
    ):
        yield f"{count(unknown, 'name')} without usage by that user or API key"


def _parquet(
    rows: Rows, selection: Selection, table: Table, staging: Path, *, by_day: bool
) -> tuple[dict[str, Path], int]:
    """A table's Parquet files, finished aside, by the names that they are to have, and its rows.

    One file, or one a day where the rows have days and `by_day` asks for it.
    """
    name, whole = table.name, f"{table.name}.parquet"
    parts: dict[str, Iterable[pa.RecordBatch]] = {whole: rows.of_all(table)}
    if table.by_day:
        days = {day: rows.of_day(table, day) for day in selection.days_of(table)}
        parts = {whole: chain.from_iterable(days.values())}
        if by_day:
            parts = {f"{name}/day={day}/{whole}": batches for day, batches in days.items()}
    files = {part: staging / f"{name}-{place}.part" for place, part in enumerate(parts)}
    count = sum(write_parquet(table, batches, files[part]) for part, batches in parts.items())
    return files, count


def _staged(
    con: duckdb.DuckDBPyConnection,
    wanted: Mapping[str, Table],
    parts: Mapping[str, Mapping[str, Path]],
    form: Format,
    dialect: Dialect | None,
    folder: Folder,
    source: str,
    about: About,
    labels: Labels,
    on_note: Callable[[str], None],
) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of the export by their names, and of each table where it is, in words."""
    if form == "parquet":
        staged = {name: path for files in parts.values() for name, path in files.items()}
        places = {
            name: re.sub(r"day=[\d-]+", "day=YYYY-MM-DD", next(iter(files)))
            for name, files in parts.items()
        }
        return staged, places
    whole = {name: path for name, files in parts.items() for path in files.values()}
    if form == "duckdb":
        database = folder.path / DATABASE
        if not folder.keeps(DATABASE, source):
            database = folder.staging / DATABASE
            tables = {name: (wanted[name], path) for name, path in whole.items()}
            write_database(con, tables, database)
        return {DATABASE: database}, dict.fromkeys(whole, DATABASE)
    if form == "xlsx":
        sheets = {name: (wanted[name], path) for name, path in whole.items()}
        for note in write_workbook(sheets, about, folder.staging / WORKBOOK, labels):
            on_note(note)
        places = {name: f"{WORKBOOK}, sheet {name}" for name in whole}
        return {WORKBOOK: folder.staging / WORKBOOK}, places
    staged = {f"{name}.csv": folder.staging / f"{name}.csv.part" for name in whole}
    for name, path in whole.items():
        of_table = replace(dialect or Dialect(), iso_times=name == FOCUS_COSTS.name)
        write_csv(con, path, staged[f"{name}.csv"], of_table)
    return staged, {name: f"{name}.csv" for name in whole}
