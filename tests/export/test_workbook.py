"""`--format xlsx`: a workbook that spreadsheets open, with every value of the Parquet files.

openpyxl reads it here; `pytest --long` has LibreOffice open it too.
"""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.export.export import WORKBOOK, Exported, export
from pipeline.export.files import Dialect, Format, write_csv
from pipeline.export.rows import Lacking
from pipeline.export.tables import (
    DIM_DATE,
    DIM_USER,
    FACT_COSTS,
    FACT_TOKENS,
    TABLES,
    Table,
    with_names,
)
from pipeline.export.workbook import MOST_LETTERS, About, write_workbook
from pipeline.lake.store import Lake
from pipeline.names.file import read_names
from tests.bounded import finished
from tests.export.exported import DAYS, digests
from tests.named import names as names_of
from tests.named import write_names

NAMES = ["dim_date", "dim_user", "fact_usage", "fact_tokens", "usage_1d"]
Convert = Callable[..., None]
AS_CSV = "Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false"
"""As LibreOffice writes a CSV: comma, quote, UTF-8, values as they are shown."""
NOTHING_LACKS = Lacking(set(), {}, [], set())
GIVEN = {"user_0000": '=HYPERLINK("https://example.org")'}
TEXTS = [
    *("=1+1", "+49 30", "-1", "@SUM(A1)", "\t=1", "＝1+1", " =1", "'=1"),
    *("007", "1e5", "2024-01-01", "TRUE", "https://example.org/", "mailto:a@example.org"),
    *(
        "<r><t>x</t></r>",
        "<r>&</r>",
        "a & b < c",
        "]]>",
        '"',
        " leading",
        "trailing ",
        "two\nlines",
    ),
    *("_x0041_", "\x00\x01\x1f", "\ufffe", "🙂" * 3, "עברית", "e\u0301"),
]
ARE_MARKED = {"<r><t>x</t></r>", "<r>&</r>"}
"""These alone are not as they were: a `'` stands before them."""


def cells(path: Path, sheet: str) -> list[tuple[Any, ...]]:
    """The values of a sheet, row by row, the header first."""
    book = openpyxl.load_workbook(path, read_only=True)
    try:
        return list(book[sheet].iter_rows(values_only=True))
    finally:
        book.close()


def written(table: Table, rows: Sequence[dict[str, Any]], folder: Path) -> tuple[Path, list[str]]:
    """A workbook with these rows, and the notes on it."""
    parquet = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=table.schema), parquet)
    about = About([DAYS[0]], NOTHING_LACKS, ())
    path = folder / WORKBOOK
    return path, list(write_workbook({table.name: (table, parquet)}, about, path))


def users(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of dim_user."""
    return [{"user_key": place, "user_id": text} for place, text in enumerate(texts)]


@pytest.fixture(scope="module")
def book(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    """A workbook of three days, of which a fourth is not loaded. Tests only read it."""
    folder = tmp_path_factory.mktemp("book")
    return folder / WORKBOOK, export(
        lake,
        folder,
        NAMES,
        form="xlsx",
        last=date(2024, 1, 4),
        names=names_of(GIVEN),
    )


def as_excel_has_it(value: Any) -> Any:
    """A value of a Parquet file as a workbook has it: money is a double, a day is a time."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


@pytest.mark.parametrize("name", ["fact_tokens", "usage_1d"])
def test_a_sheet_has_the_rows_of_its_table(
    name: str, book: tuple[Path, Exported], star: Path
) -> None:
    expected = pq.read_table(star / f"{name}.parquet")
    header, *found = cells(book[0], name)
    place = header.index("user_id") + 1
    assert header == (*expected.column_names[:place], "user_name", *expected.column_names[place:])
    assert book[1].rows[name] == len(found) == expected.num_rows
    for row, values in zip(found, expected.to_pylist(), strict=True):
        assert (*row[:place], *row[place + 1 :]) == tuple(map(as_excel_has_it, values.values()))
        user = values["user_id"]
        assert row[place] == GIVEN.get(user, user), "no name is made up, and nobody has none"


def test_teams_and_keys_are_named_where_people_have_named_them(lake: Lake, tmp_path: Path) -> None:
    lines = ("key,key_web,Web shop,", "user,user_0000,,crew", "team,crew,The crew,")
    names = read_names(write_names(tmp_path, *lines))
    export(lake, tmp_path / "out", ["fact_usage"], form="xlsx", names=names)
    header, *found = cells(tmp_path / "out" / WORKBOOK, "fact_usage")
    assert "user_name" not in header, "nobody has a name"
    columns = [
        header.index(name) for name in ("user_id", "team_name", "api_key_id", "api_key_name")
    ]
    for user, team, key, called in ([row[place] for place in columns] for row in found):
        assert team == ("The crew" if user == "user_0000" else "(no team)")
        assert called == ("Web shop" if key == "key_web" else key)
    assert "`team_name`" in (tmp_path / "out" / "DATA_DICTIONARY.md").read_text(encoding="utf-8")


def test_numbers_dates_and_texts_have_their_types(book: tuple[Path, Exported]) -> None:
    loaded = openpyxl.load_workbook(book[0])
    facts, people = loaded["fact_usage"], loaded["dim_user"]
    kinds = {facts.cell(1, column.column).value: column for column in facts[2]}
    assert (kinds["date"].data_type, kinds["date"].number_format) == ("d", "yyyy-mm-dd")
    assert kinds["start_time"].number_format == "yyyy-mm-dd hh:mm:ss"
    assert kinds["num_operations"].data_type == kinds["user_key"].data_type == "n"
    assert kinds["user_key"].number_format == "0", "all digits of a key are seen"
    assert kinds["is_final"].data_type == "b"
    assert facts.freeze_panes == "A2"
    assert facts.auto_filter.ref == f"A1:L{facts.max_row}"
    named = {row[1].value: row[2] for row in people.iter_rows(min_row=2)}["user_0000"]
    assert (named.value, named.data_type) == ('=HYPERLINK("https://example.org")', "s")
    assert named.quotePrefix, "it stays a text when somebody edits it"


def test_the_first_sheets_say_what_it_is_of_when_and_what_is_missing(
    book: tuple[Path, Exported],
) -> None:
    loaded = openpyxl.load_workbook(book[0], read_only=True)
    assert loaded.sheetnames == ["About", "Columns", *NAMES]
    loaded.close()
    said = {row[0]: row[1] for row in cells(book[0], "About") if row[0]}
    assert said["Period"] == "2024-01-01 to 2024-01-04, whole days"
    assert said["Complete through"] == "2024-01-04T00:00:00Z"
    assert said["Not loaded"] == "2024-01-04"
    assert "responses were not read: 2024-01-04" in said["Note"]
    assert said["Time zone"].startswith("UTC")
    assert {name: said[name] for name in NAMES} == book[1].rows
    meanings = {row[:2]: row[3] for row in cells(book[0], "Columns")}
    for name in NAMES:
        for column in TABLES[name].columns:
            assert meanings[name, column.name] == column.description


def test_the_same_tables_are_the_same_bytes(lake: Lake, tmp_path: Path) -> None:
    for folder in ("a", "b", "a"):
        again = export(lake, tmp_path / folder, ["usage_1d"], form="xlsx").replaced
    assert (again.written, again.unchanged) == (0, 2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_text_is_never_a_formula_a_link_a_number_or_xml(tmp_path: Path) -> None:
    path, notes = written(DIM_USER, users(TEXTS), tmp_path)
    sheet = openpyxl.load_workbook(path)["dim_user"]
    found = [row[1] for row in sheet.iter_rows(min_row=2)]
    assert notes == []
    assert {cell.data_type for cell in found} == {"s"}
    assert not any(cell.hyperlink for cell in found)
    decoded = [openpyxl.utils.escape.unescape(cell.value) for cell in found]
    assert decoded == [f"'{text}" if text in ARE_MARKED else text for text in TEXTS]


@pytest.mark.parametrize("letter", ["a", "🙂"])
def test_a_text_that_no_cell_holds_is_cut_and_that_is_said(letter: str, tmp_path: Path) -> None:
    path, notes = written(DIM_USER, users([letter * 40_000, "short"]), tmp_path)
    [_, cut, short] = [row[1] for row in cells(path, "dim_user")]
    assert letter * 40_000 != cut
    assert (letter * 40_000).startswith(cut)
    assert MOST_LETTERS - 1 <= len(cut.encode("utf-16-le")) // 2 <= MOST_LETTERS
    assert short == "short"
    [note] = notes
    assert note.startswith("1 text of dim_user is cut at 32,767 characters")


@pytest.mark.parametrize(("rows", "sheets"), [(0, 1), (9, 1), (10, 1), (11, 2), (30, 3), (31, 4)])
def test_a_longer_table_goes_on_in_further_sheets_and_that_is_said(
    rows: int, sheets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.export.workbook.MOST_ROWS", 10)
    monkeypatch.setattr("pipeline.export.workbook._BATCH", 4)
    path, notes = written(DIM_USER, users([f"u{place}" for place in range(rows)]), tmp_path)
    names = ["dim_user", *(f"dim_user ({number})" for number in range(2, sheets + 1))]
    parts = [cells(path, name) for name in names]
    assert {part[0] for part in parts} == {tuple(DIM_USER.schema.names)}
    assert [row[0] for part in parts for row in part[1:]] == [*range(rows)]
    assert all(len(part) <= 11 for part in parts)
    assert len(notes) == (sheets > 1)
    assert not notes or f"it is in {sheets} sheets" in notes[0]


def test_unknown_money_is_an_empty_cell_and_known_money_a_number(tmp_path: Path) -> None:
    costs = [Decimal("0.000273500000001"), Decimal("-12345.678900000000000"), None]
    path, _ = written(FACT_TOKENS, [{"num_failed": 0, "cost": cost} for cost in costs], tmp_path)
    header, *found = cells(path, "fact_tokens")
    shown = [row[header.index("cost")] for row in found]
    assert shown[2] is None
    assert math.isclose(shown[0], 0.000273500000001, rel_tol=1e-14)
    assert shown[1] == -12345.6789


def test_every_column_is_as_wide_as_its_header_and_its_numbers(
    book: tuple[Path, Exported],
) -> None:
    """Else a spreadsheet shows ### in place of a number."""
    loaded = openpyxl.load_workbook(book[0])
    for name in NAMES:
        spans = list(loaded[name].column_dimensions.values())
        columns = with_names(TABLES[name], {"user_id": dict(GIVEN.items())}).columns
        for place, column in enumerate(columns, 1):
            [width] = [span.width for span in spans if span.min <= place <= span.max]
            assert width > len(column.name)
            assert width >= 20 or column.type == pa.string()


@pytest.mark.parametrize(
    ("lacking", "through"),
    [
        (NOTHING_LACKS, "2024-01-04T00:00:00Z"),
        (Lacking({DAYS[1]}, {}, [], set()), "2024-01-02T00:00:00Z"),
        (Lacking({DAYS[2]}, {}, [DAYS[1]], set()), "2024-01-02T00:00:00Z"),
        (Lacking(set(), {DAYS[2]: 1_704_240_060}, [], set()), "2024-01-03T00:01:00Z"),
        (Lacking(set(), {}, [], {DAYS[1]}), "2024-01-04T00:00:00Z"),
    ],
)
def test_it_is_complete_through_the_first_hole(
    lacking: Lacking, through: str, tmp_path: Path
) -> None:
    parquet = tmp_path / "rows.parquet"
    pq.write_table(DIM_DATE.schema.empty_table(), parquet)
    path = tmp_path / WORKBOOK
    assert not [*write_workbook({"dim_date": (DIM_DATE, parquet)}, About(DAYS, lacking, ()), path)]
    assert ("Complete through", through) in {row[:2] for row in cells(path, "About")}


# LibreOffice


@pytest.fixture
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Convert:
    """LibreOffice: what it reads of a file, written as another one, into `read` beside it."""
    if not request.config.getoption("--long"):
        pytest.skip("LibreOffice is heavy: --long")
    if shutil.which("soffice") is None:
        pytest.skip("there is no soffice: install LibreOffice Calc")

    def convert(file: Path, to: str, *options: str) -> None:
        profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
        to_read = ["--convert-to", to, "--outdir", "read", file.name]
        finished(["soffice", profile, *options, *to_read], cwd=file.parent)

    return convert


@pytest.mark.slow
@pytest.mark.parametrize("form", ["xlsx", "csv"])
def test_libreoffice_reads_every_row_and_computes_nothing(
    form: Format, office: Convert, lake: Lake, star: Path, tmp_path: Path
) -> None:
    folder, names = tmp_path / "out", names_of({"user_0000": "=1+1"})
    export(lake, folder, ["dim_user", "usage_1d"], form=form, names=names)
    if form == "xlsx":
        office(folder / WORKBOOK, f"csv:{AS_CSV},false,false,-1")
        files = {name: folder / f"read/mka1_usage-{name}.csv" for name in ("dim_user", "usage_1d")}
    else:
        files = {name: folder / f"read/{name}.csv" for name in ("dim_user", "usage_1d")}
        for name in files:
            office(folder / f"{name}.csv", f"csv:{AS_CSV}", "--infilter=CSV:44,34,76,1")
    users, days = (
        list(csv.DictReader(files[name].read_text(encoding="utf-8-sig").splitlines()))
        for name in ("dim_user", "usage_1d")
    )
    expected = pq.read_table(star / "usage_1d.parquet").to_pylist()
    assert [(row["start_time"], int(row["num_operations"])) for row in days] == [
        (f"{row['start_time']:%Y-%m-%d %H:%M:%S}", row["num_operations"]) for row in expected
    ]
    named = {row["user_id"]: row["user_name"] for row in users}
    assert named["user_0000"] == ("=1+1" if form == "xlsx" else "'=1+1")
    keys = pq.read_table(star / "dim_user.parquet")["user_key"].to_pylist()
    assert [int(row["user_key"]) for row in users] == keys


@pytest.mark.slow
def test_libreoffice_in_german_reads_a_decimal_comma_as_money(
    office: Convert, tmp_path: Path
) -> None:
    costs = [Decimal("0.137000001"), Decimal("-1234.5")]
    rows = pa.Table.from_pylist([{"cost": cost} for cost in costs], schema=FACT_COSTS.schema)
    pq.write_table(rows, tmp_path / "rows.parquet")
    with closing(duckdb.connect()) as con:
        dialect = Dialect(";", decimal_comma=True)
        write_csv(con, tmp_path / "rows.parquet", tmp_path / "costs.csv", dialect)
    office(tmp_path / "costs.csv", "xlsx", "--infilter=CSV:59,34,76,1,,1031,false,true")
    header, *found = cells(tmp_path / "read" / "costs.xlsx", "costs")
    assert [row[header.index("cost")] for row in found] == [float(cost) for cost in costs]
