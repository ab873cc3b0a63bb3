"""`mka1-usage export` as a person or a script uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq
import pytest

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.export import export as exporting
from pipeline.export.files import MOST_ROWS
from pipeline.export.folder import MANIFEST
from pipeline.lake.store import Lake
from pipeline.timeline import day_of, parse_time
from tests.fixtures_local import clean_environment, command
from tests.truth import load

START = day_of(parse_time("2024-01-01"))
STAR = {"dim_date", "dim_user", "dim_api_key", "fact_usage"}
USAGE = {"usage_1m", "usage_1h", "usage_1d"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the first and the third of January. Tests only read it."""
    folder = tmp_path_factory.mktemp("home")
    with EmulatorServer(synthetic_world(days=3, users=5)) as server:
        load(server, Lake(folder / "lake"), [START, START.replace(day=3)])
    return folder


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


def names(folder: Path) -> set[str]:
    """What a person sees in a folder."""
    return {path.name for path in folder.glob("[!.]*")}


def test_everything_is_exported_and_told_in_a_few_lines() -> None:
    ended = command(["export", "bi"])
    assert ended.code == 0, ended.err
    files = {f"{name}.parquet" for name in STAR | USAGE}
    assert names(Path("bi")) == {*files, "DATA_DICTIONARY.md", MANIFEST}
    for name in STAR | USAGE:
        rows = pq.read_metadata(f"bi/{name}.parquet").num_rows
        assert f"{name} {rows:,}" in " ".join(ended.text.split())
    missing, done = ended.err.splitlines()
    assert missing == "mka1-usage: note: not loaded: 2024-01-02"
    assert done.startswith("mka1-usage: 2024-01-01 to 2024-01-03 is in bi: 8 files, ")
    assert done.endswith("; 8 written, 0 unchanged, 0 removed")
    assert command(["export", "bi"]).err.endswith("; 0 written, 8 unchanged, 0 removed\n")


@pytest.mark.parametrize(
    ("start", "end", "missing"),
    [
        ("2023-12-30", "2024-01-02", "2023-12-30 to 2023-12-31"),
        ("2024-01-02", "2024-01-06", "2024-01-02, 2024-01-04 to 2024-01-05"),
        ("2024-01-03", "2024-01-04", None),
    ],
)
def test_what_is_not_loaded_of_the_window_is_said(
    start: str, end: str, missing: str | None
) -> None:
    ended = command(["export", "bi", "--start", start, "--end", end])
    assert ended.code == 0, ended.err
    notes = [line for line in ended.err.splitlines() if "note: not loaded" in line]
    assert notes == ([f"mka1-usage: note: not loaded: {missing}"] if missing else [])


def test_a_window_of_which_nothing_is_loaded_is_refused_in_words() -> None:
    ended = command(["export", "bi", "--start", "2024-02-01", "--end", "2024-02-03"])
    assert ended.code == 1
    assert "usage is loaded of 2024-01-01, 2024-01-03" in ended.err
    assert not Path("bi").exists()


def test_what_is_exported_can_be_chosen() -> None:
    options = ["--table", "usage_1d", "--table", "dim_user", "--partition-by", "day"]
    ended = command(["export", "bi", *options, "--start", "2024-01-03T05:00"])
    assert ended.code == 0, ended.err
    assert names(Path("bi")) == {"usage_1d", "dim_user.parquet", "DATA_DICTIONARY.md", MANIFEST}
    assert names(Path("bi/usage_1d")) == {"day=2024-01-03"}
    ended = command(["export", "bi", "--format", "csv", "--end", "2024-01-01T00:00:01"])
    assert "2024-01-01 to 2024-01-01 is in bi" in ended.err
    assert "stay as an export in another format wrote them" in ended.err
    assert names(Path("bi")) == {
        *(f"{name}.csv" for name in STAR | USAGE),
        *("usage_1d", "dim_user.parquet"),
        "DATA_DICTIONARY.md",
        MANIFEST,
    }


def test_settings_stand_in_for_what_is_not_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("names.csv").write_text("kind,id,name\nuser,user_0000,Ada\nuser,nobody,Nobody\n")
    monkeypatch.setenv("MKA1_USAGE_EXPORT_DIR", str(tmp_path / "set"))
    monkeypatch.setenv("MKA1_USAGE_EXPORT_NAMES", "names.csv")
    monkeypatch.setenv("MKA1_USAGE_EXPORT_READABLE_BY", "group")
    ended = command(["export"])
    assert "note: 1 name without usage by that user or API key" in ended.err
    assert "note: MKA1_USAGE_EXPORT_NAMES names people in exports alone: set MKA1_USAGE_NAMES" in (
        ended.err
    )
    users = pq.read_table(tmp_path / "set" / "dim_user.parquet").column("user_name").to_pylist()
    assert "Ada" in users
    assert (tmp_path / "set" / "dim_user.parquet").stat().st_mode & 0o777 == 0o640
    command(["export", "--readable-by", "all"])
    assert (tmp_path / "set" / "dim_user.parquet").stat().st_mode & 0o777 == 0o644


def test_a_wrong_price_list_stops_what_needs_prices_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "prices.csv").write_text("model,price\n", encoding="utf-8")
    monkeypatch.setenv("MKA1_USAGE_PRICES", str(tmp_path / "prices.csv"))
    ended = command(["export", "bi"])
    assert ended.code == 2
    assert "prices.csv, line 1" in ended.err
    assert not Path("bi").exists()
    assert command(["export", "bi", "--table", "usage_1d"]).code == 0


def test_a_table_that_no_sheet_holds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.export.files.MOST_ROWS", 10)
    ended = command(["export", "bi", "--format", "csv"])
    assert "note: usage_1m has " in ended.err
    assert "export fewer days (--start, --end) or wider buckets" in ended.err
    assert "note: dim_date" not in ended.err
    assert MOST_ROWS == 2**20 - 1


@pytest.mark.parametrize(
    ("options", "separator"),
    [("", ","), ("--separator tab", "\t"), ("--separator ;", ";"), ("--decimal-comma", ";")],
)
def test_a_csv_has_the_separator_that_is_asked_for(options: str, separator: str) -> None:
    ended = command(["export", "bi", "--format", "csv", "--table", "dim_user", *options.split()])
    assert ended.code == 0, ended.err
    header = Path("bi/dim_user.csv").read_text("utf-8-sig").splitlines()[0]
    assert header.startswith(f"user_key{separator}user_id{separator}")


def test_a_workbook_is_one_file_and_says_what_it_could_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.export.workbook.MOST_ROWS", 10)
    ended = command(["export", "bi", "--format", "xlsx", "--table", "usage_1h"])
    assert ended.code == 0, ended.err
    assert names(Path("bi")) == {"mka1_usage.xlsx", "DATA_DICTIONARY.md", MANIFEST}
    assert re.search(r"note: usage_1h has \d+ rows, .* it is in \d+ sheets", ended.err)
    assert "note: not loaded: 2024-01-02" in ended.err
    assert "`mka1_usage.xlsx, sheet usage_1h`" in Path("bi/DATA_DICTIONARY.md").read_text("utf-8")


MISUSED: list[tuple[str, Mapping[str, str], str]] = [
    ("--table usage", {}, "there is no table 'usage'; there are dim_date, dim_user, "),
    ("--partition-by week", {}, "'week' is none of day"),
    ("--partition-by day --format csv", {}, "only Parquet is cut into days"),
    ("--format ods", {}, "'ods' is none of parquet, csv, duckdb, xlsx"),
    ("--separator | --format csv", {}, "'|' is none of comma, semicolon, tab"),
    ("--separator tab", {}, "--separator is for --format csv, and this is parquet"),
    ("--decimal-comma --format xlsx", {}, "--decimal-comma is for --format csv, and this is xlsx"),
    ("--decimal-comma --separator , --format csv", {}, "semicolon or tab, not comma"),
    ("--readable-by me", {}, "'me' is none of owner, group, all"),
    ("--start soon", {}, "'soon' is not a time"),
    ("--start 2024-01-02 --end 2024-01-02", {}, "the window is empty"),
    ("--names nowhere.csv", {}, "'nowhere.csv' does not exist"),
    ("--names bad.csv", {}, "bad.csv, line 2, column kind: write user, key"),
    ("", {"MKA1_USAGE_EXPORT_NAMES": "bad.csv"}, "bad.csv, line 2, column kind: write user"),
    ("", {"MKA1_USAGE_EXPORT_NAMES": "nowhere.csv"}, "nowhere.csv cannot be read: No such file"),
    ("", {"MKA1_USAGE_NAMES": "nowhere.csv"}, "nowhere.csv cannot be read: No such file"),
    ("", {"MKA1_USAGE_EXPORT_READABLE_BY": "me"}, "MKA1_USAGE_EXPORT_READABLE_BY: "),
]
FAILED: list[tuple[str, Mapping[str, str], str]] = [
    (
        "--start 2025-01-01",
        {},
        "no dim_date from 2025-01-01: usage is loaded of 2024-01-01, 2024-01-03,",
    ),
    ("--table conversations", {}, "there is no conversations in this lake: `mka1-usage run`"),
    ("", {"MKA1_USAGE_HOME": "empty"}, "nothing is loaded in .*lake: load days with `mka1-usage"),
]


@pytest.mark.parametrize(
    ("code", "options", "environment", "complaint"),
    [*((2, *case) for case in MISUSED), *((1, *case) for case in FAILED)],
)
def test_what_can_not_be_done_is_told_in_a_line_and_leaves_nothing(
    code: int,
    options: str,
    environment: Mapping[str, str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("bad.csv").write_text("kind,id,name\nperson,a,A\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = command(["export", "bi", *options.split()])
    assert (ended.code, ended.out) == (code, b"")
    assert re.search(complaint, " ".join(ended.err.split()))
    assert "Traceback" not in ended.err
    assert not Path("bi").exists()


@pytest.mark.parametrize("kind", ["other things", "a file", "not writable"])
def test_a_folder_that_is_none_to_export_to_is_left_as_it_is(kind: str) -> None:
    place = Path("bi")
    if kind == "a file":
        place.write_text("mine")
    elif kind == "other things":
        place.mkdir()
        (place / "thesis.docx").write_text("mine")
    else:
        place = Path("/proc/bi")
    ended = command(["export", str(place)])
    assert ended.code == (1 if kind == "not writable" else 2)
    [error] = ended.err.splitlines()
    assert str(place) in error
    assert kind != "other things" or names(place) == {"thesis.docx"}


def test_ctrl_c_leaves_the_export_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    command(["export", "bi"])
    before = {path: path.read_bytes() for path in Path("bi").glob("[!.]*")}

    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_staged", interrupted)
    ended = command(["export", "bi", "--end", "2024-01-02"])
    assert ended.code == 130
    assert ended.err == "mka1-usage: interrupted: run the same again\n"
    assert {path: path.read_bytes() for path in Path("bi").glob("[!.]*")} == before
    assert not [path for path in Path("bi").iterdir() if path.is_dir()]
