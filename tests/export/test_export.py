"""An export as a whole: formats, repetition, agreement of its tables, refusals."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import date
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.emulator import EmulatorServer, Event, World
from pipeline.export.export import DATABASE, ExportError, export
from pipeline.export.files import Dialect, Format, write_csv
from pipeline.export.folder import MANIFEST, FolderError, Replaced
from pipeline.export.tables import DEFAULT, TABLES, UnknownTableError
from pipeline.lake.files import ROW_GROUP
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import parse_time
from tests.export.exported import DAYS, WHOLE_STAR, WITH_TOKENS, digests, rows
from tests.lake.served import plant
from tests.named import names as names_of
from tests.truth import MEASURES, load

START = parse_time("2024-01-01")
FORMATS: list[Format] = ["parquet", "csv", "duckdb"]
FORMULAS = ["=1+1", "+49", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1+1", "　－1", " \n +1"]
CSV_READERS: dict[str, Callable[[Path], list[str]]] = {
    "duckdb": lambda path: duckdb.read_csv(str(path)).columns,
    "polars": lambda path: pl.read_csv(path).columns,
    "pandas": lambda path: list(pd.read_csv(path).columns),
    "pyarrow": lambda path: list(pyarrow.csv.read_csv(path).column_names),
}


def lake_of(folder: Path, events: list[Event], pseudonyms: Pseudonyms | None = None) -> Lake:
    """A lake with what one day holds."""
    lake = Lake(folder)
    with EmulatorServer(World.from_events(events)) as server:
        load(server, lake, [DAYS[0]], pseudonyms=pseudonyms)
    return lake


# Again


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("by_day", [False, True])
def test_the_same_lake_leaves_the_same_files(
    form: Format, by_day: bool, lake: Lake, tmp_path: Path
) -> None:
    if by_day and form != "parquet":
        return
    files = export(lake, tmp_path / "a", form=form, by_day=by_day).replaced.written
    before = digests(tmp_path / "a")
    assert export(lake, tmp_path / "a", form=form, by_day=by_day).replaced == Replaced(0, files, 0)
    assert digests(tmp_path / "a") == before
    export(lake, tmp_path / "b", form=form, by_day=by_day)
    assert set(digests(tmp_path / "b")) == set(before)
    if form != "duckdb":
        assert digests(tmp_path / "b") == before


def test_a_day_that_changes_changes_its_own_file_alone(lake: Lake, tmp_path: Path) -> None:
    shutil.copytree(lake.root, tmp_path / "lake", symlinks=True)
    copied, folder = Lake(tmp_path / "lake"), tmp_path / "out"
    export(copied, folder, ["usage_1d"], by_day=True)
    plant(copied, "usage_1d", [], DAYS[1])
    assert export(copied, folder, ["usage_1d"], by_day=True).replaced == Replaced(1, 3, 0)
    found = pq.read_table(folder / "usage_1d" / f"day={DAYS[1]}" / "usage_1d.parquet")
    assert found.num_rows == 0, "a day without usage is a file without rows"


def test_a_database_is_written_anew_when_a_table_changes(lake: Lake, tmp_path: Path) -> None:
    export(lake, tmp_path, ["dim_user"], form="duckdb")
    named = names_of({"user_0000": "Ada"})
    assert export(lake, tmp_path, ["dim_user"], form="duckdb", names=named).replaced.written == 1
    with closing(duckdb.connect(str(tmp_path / DATABASE), read_only=True)) as con:
        assert con.sql("SELECT count(*) FROM dim_user WHERE user_name = 'Ada'").fetchall() == [(1,)]
    (tmp_path / DATABASE).unlink()
    assert export(lake, tmp_path, ["dim_user"], form="duckdb").replaced.written == 1


def test_a_database_of_the_same_tables_is_not_made_again(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would differ, and making it takes longer than all the rest."""
    export(lake, tmp_path, form="duckdb")
    monkeypatch.delattr("pipeline.export.export.write_database")
    assert export(lake, tmp_path, form="duckdb").replaced == Replaced(0, 2, 0)


def test_what_is_not_asked_for_any_more_is_gone(lake: Lake, tmp_path: Path) -> None:
    export(lake, tmp_path, by_day=True)
    export(lake, tmp_path, ["usage_1d"])
    assert set(digests(tmp_path)) == {"usage_1d.parquet", "DATA_DICTIONARY.md", MANIFEST}
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


# Formats


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_every_table_and_the_same_sums(
    form: Format, lake: Lake, star: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "it's [odd]? *"
    exported = export(lake, folder, form=form)
    assert set(exported.rows) == set(WHOLE_STAR if form == "duckdb" else WITH_TOKENS)
    assert set(exported.sizes) == set(digests(folder)) - {MANIFEST}
    for name in WITH_TOKENS:
        expected = pq.read_table(star / f"{name}.parquet")
        assert exported.rows[name] == expected.num_rows
        found = _table(folder, form, name, tmp_path)
        assert [one for one in found.column_names if one != "team_key"] == expected.column_names
        for measure in set(MEASURES) & set(expected.column_names):
            assert sum(found[measure].to_pylist()) == sum(expected[measure].to_pylist())


def _table(folder: Path, form: Format, name: str, scratch: Path) -> Any:
    """A table of an export as Arrow. DuckDB can't open a database under every name of a folder."""
    if form == "parquet":
        return pq.read_table(folder / f"{name}.parquet")
    if form == "csv":
        return pyarrow.csv.read_csv(folder / f"{name}.csv")
    shutil.copy(folder / DATABASE, scratch / DATABASE)
    with closing(duckdb.connect(str(scratch / DATABASE), read_only=True)) as con:
        return con.sql(f"FROM {name}").to_arrow_table()


def test_a_database_opens_in_older_clients_and_explains_itself(lake: Lake, tmp_path: Path) -> None:
    export(lake, tmp_path, form="duckdb")
    with closing(duckdb.connect(str(tmp_path / DATABASE), read_only=True)) as con:
        options = con.sql("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()
        said = dict(con.sql("SELECT table_name, comment FROM duckdb_tables()").fetchall())
        meant = con.sql("SELECT table_name, column_name, comment FROM duckdb_columns()").fetchall()
        kinds = {
            row[0]
            for row in con.sql(
                "SELECT data_type FROM duckdb_columns() WHERE NOT internal"
            ).fetchall()
        }
    assert "v1.0.0" in str(options)
    money = {"DECIMAL(38,15)", "DECIMAL(38,9)"}
    assert kinds == {"BIGINT", "BOOLEAN", "DATE", *money, "TIMESTAMP", "VARCHAR"}
    assert set(said) == set(WHOLE_STAR)
    for name in WHOLE_STAR:
        assert said[name].startswith(TABLES[name].description)
        for column in TABLES[name].columns:
            assert (name, column.name, column.description) in meant


@pytest.mark.parametrize("reader", CSV_READERS)
def test_a_csv_opens_in_excel_and_everywhere_else(reader: str, lake: Lake, tmp_path: Path) -> None:
    export(lake, tmp_path, ["dim_user", "usage_1d"], form="csv")
    for name in ("dim_user", "usage_1d"):
        path = tmp_path / f"{name}.csv"
        assert path.read_bytes().startswith("\ufeff".encode())
        assert CSV_READERS[reader](path) == TABLES[name].schema.names
    with (tmp_path / "usage_1d.csv").open(encoding="utf-8-sig", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["date"], first["start_time"]) == ("2024-01-01", "2024-01-01 00:00:00")


CSV_DIALECTS = [
    (Dialect(), "a;b,'=1+1,-0.137000001"),
    (Dialect(";"), '"a;b";\'=1+1;-0.137000001'),
    (Dialect(";", decimal_comma=True), '"a;b";\'=1+1;-0,137000001'),
    (Dialect("\t", decimal_comma=True), "a;b\t'=1+1\t-0,137000001"),
]


@pytest.mark.parametrize(("dialect", "line"), CSV_DIALECTS)
def test_a_csv_is_written_as_a_country_reads_it(
    dialect: Dialect, line: str, tmp_path: Path
) -> None:
    rows = {
        "id": ["a;b"],
        "name": ["=1+1"],
        "cost": pa.array([Decimal("-0.137000001")], pa.decimal128(38, 9)),
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    with closing(duckdb.connect()) as con:
        write_csv(con, tmp_path / "rows.parquet", tmp_path / "rows.csv", dialect)
    written = (tmp_path / "rows.csv").read_bytes().decode()
    assert written == f"\ufeff{dialect.separator.join(rows)}\n{line}\n"


def test_no_text_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    events = [
        Event(START + number, user, user, 1, 1, 1)
        for number, user in enumerate([*FORMULAS, "plain", 'a "quoted", b'])
    ]
    lake = lake_of(tmp_path / "lake", events)
    names = names_of({"plain": "=HYPERLINK(1)"})
    export(lake, tmp_path / "out", form="csv", names=names)
    export(lake, tmp_path / "as-is", names=names)
    for name in DEFAULT:
        text = (tmp_path / "out" / f"{name}.csv").read_bytes().decode("utf-8-sig")
        cells = [cell for row in csv.reader(StringIO(text, newline="")) for cell in row]
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    users = {row["user_id"] for row in rows(tmp_path / "as-is", "dim_user")}
    assert users >= set(FORMULAS), "Parquet has every text as it is"


def test_rows_come_in_groups_of_one_size_through_all_days(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    day = [
        {
            "start_time": START,
            "end_time": START + 60,
            "user_id": f"{n:06}",
        }
        for n in range(ROW_GROUP // 2 + 1)
    ]
    for each in DAYS[:2]:
        for name in ("usage_1h", "usage_1m"):
            plant(lake, name, day, each)
    export(lake, tmp_path / "out", ["usage_1m"])
    found = pq.read_metadata(tmp_path / "out" / "usage_1m.parquet")
    assert [found.row_group(place).num_rows for place in range(2)] == [ROW_GROUP, 2]


# Agreement


def test_tables_agree_while_a_run_publishes(lake: Lake, tmp_path: Path) -> None:
    """A day is replaced as soon as the first table has been written."""
    shutil.copytree(lake.root, tmp_path / "lake", symlinks=True)
    moving = Lake(tmp_path / "lake")
    written: list[str] = []

    def publish(name: str) -> None:
        if len(written) == 1:
            plant(moving, "usage_1h", [], DAYS[0])
            plant(moving, "usage_1d", [], DAYS[0])
        written.append(name)

    def sums(folder: Path) -> dict[str, int]:
        names = ("fact_usage", "usage_1m", "usage_1h", "usage_1d")
        return {name: sum(row["num_operations"] for row in rows(folder, name)) for name in names}

    export(moving, tmp_path / "out", on_table=publish)
    assert len(set(sums(tmp_path / "out").values())) == 1
    export(moving, tmp_path / "later")
    assert len(set(sums(tmp_path / "later").values())) == 2, "what was planted is in the lake"


def test_what_a_fact_joins_takes_its_place_before_the_fact(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[str] = []
    real = Path.replace

    def noted(path: Path, target: Path) -> Path:
        placed.append(Path(target).name)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    export(lake, tmp_path, by_day=True)
    facts = [place for place, name in enumerate(placed) if name == "fact_usage.parquet"]
    for name in ("dim_date", "dim_user", "dim_api_key"):
        assert placed.index(f"{name}.parquet") < min(facts)
    assert (placed[0], placed[-1]) == (MANIFEST, MANIFEST)


# Pseudonyms


def test_names_of_people_do_not_undo_pseudonyms(tmp_path: Path) -> None:
    pseudonyms = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))
    events = [Event(START, "alice", "key", 1, 1, 1)]
    lake = lake_of(tmp_path / "lake", events, pseudonyms)
    hidden = pseudonyms.of("alice")
    names = names_of({"alice": "Alice", hidden: "Alice"}, {"key": "Web shop"})
    exported = export(lake, tmp_path / "out", names=names)
    assert exported.notes == [
        "names of users are left out: this lake has pseudonyms, which they would undo"
    ]
    users = {row["user_id"]: row["user_name"] for row in rows(tmp_path / "out", "dim_user")}
    assert users == {None: "(no user)", hidden: hidden}
    keys = {row["api_key_name"] for row in rows(tmp_path / "out", "dim_api_key")}
    assert keys == {"(no API key)", "Web shop"}
    assert not [path for path in (tmp_path / "out").iterdir() if b"lice" in path.read_bytes()]


# Refusals


@pytest.mark.parametrize(
    ("asked", "error", "complaint"),
    [
        (
            {"tables": ["usage"]},
            UnknownTableError,
            "there is no table 'usage'; there are dim_date, ",
        ),
        ({"by_day": True, "form": "csv"}, UnknownTableError, "only Parquet is cut into days"),
        ({"last": date(2023, 12, 31)}, ExportError, "usage is loaded of 2024-01-01 to 2024-01-03"),
        ({"first": date(2024, 1, 4)}, ExportError, "there is no dim_date from 2024-01-04: usage"),
        ({"tables": ["item_contents"]}, ExportError, "there is no item_contents in this lake"),
    ],
)
def test_what_can_not_be_exported_is_refused_before_anything_is_written(
    asked: dict[str, Any], error: type[Exception], complaint: str, lake: Lake, tmp_path: Path
) -> None:
    with pytest.raises(error, match=complaint):
        export(lake, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_nothing_is_exported_of_an_empty_lake_or_into_one(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"nothing is loaded in .*: load days with `mka1-usage ru"
    ):
        export(Lake(tmp_path / "nowhere"), tmp_path / "out")
    for inside in (lake.root, lake.root / "export"):
        with pytest.raises(FolderError, match=r"is in the lake: name a folder outside"):
            export(lake, inside)
    assert not (lake.root / "export").exists()


def test_a_damaged_file_of_the_lake_leaves_the_export_as_it_was(lake: Lake, tmp_path: Path) -> None:
    shutil.copytree(lake.root, tmp_path / "lake", symlinks=True)
    copied, folder = Lake(tmp_path / "lake"), tmp_path / "out"
    export(copied, folder)
    before = digests(folder)
    for name in ("usage_1d", "coverage", "usage_1h"):
        path = copied.file(name, DAYS[1])
        assert path is not None
        path.unlink()
        path.write_bytes(b"PAR1 no more PAR1")
        with pytest.raises((ExportError, OSError)) as raised:
            export(copied, folder)
        assert "\n" not in str(raised.value)
        assert digests(folder) == before
