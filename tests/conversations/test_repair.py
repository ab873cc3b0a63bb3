"""One file is damaged, after the catalog was built or before: every command says which, and what to
do, and none shows what is left as if it were all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest

from pipeline.emulator import EmulatorServer, Event, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.damage import damaged
from pipeline.lake.schemas import DATASETS, LEDGER_DATASETS, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.query import ad_hoc
from pipeline.timeline import DAY, Window, parse_time
from tests.fixtures_local import Ended, clean_environment, command, published_home
from tests.lake.served import plant_all
from tests.lake.test_damage import cut_short, garble_footer, remove

START: Final = parse_time("2024-01-01")
DAYS: Final = [date(2024, 1, number) for number in range(1, 5)]
DAMAGED: Final = DAYS[2]
DAMAGES: Final = (remove, cut_short, garble_footer)
Damage = Callable[[Path], None]


def garble_pages(path: Path) -> None:
    """The rows are garbage; size and footer are as they were."""
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = bytes(len(content) - 4 - footer)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a row a day in every table, and its catalog. Tests move copies of it to
    the place that the catalog names."""
    events = [Event(START + n * DAY + 60, "ada", "key", 1, 1, 5) for n in range(len(DAYS))]
    window = Window(START, START + len(DAYS) * DAY)
    folder = tmp_path_factory.mktemp("whole")
    home = published_home(folder / "home", World.from_events(events), window)
    lake = Lake(home / "lake")
    for number, day in enumerate(DAYS):
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        row = {"created_at": at, "added_at": at, "id": f"id {number}", "conversation_id": "c"}
        row |= {"start_time": START + number * DAY, "end_time": START + number * DAY + 60}
        row |= {"day": at, "measure": "num_operations", "class": "match"}
        row |= {"endpoint": "files", "value": 1, "seen_at": at, "num_responses": 1, "num_failed": 0}
        row |= {"cost_nano": 1, "currency": "usd"}
        rows = {
            name: [{c: row[c] for c in DATASETS[name].schema.names if c in row}]
            for name in DATASETS
            if name not in USAGE_DATASETS | LEDGER_DATASETS
        }
        replaced = lake.version(day)
        plant_all(lake, rows, day)
        assert replaced is not None
        shutil.rmtree(replaced)  # copied in vain otherwise
    build_catalog(lake, home / "usage.duckdb")
    return home.rename(folder / "whole")


@pytest.fixture
def home(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = whole.with_name("home")
    shutil.copytree(whole, folder, symlinks=True)
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(folder)})
    yield folder
    shutil.rmtree(folder)


def file_of(home: Path, name: str, day: date = DAMAGED) -> Path:
    version = Lake(home / "lake").version(day)
    assert version is not None
    return version / f"{name}.parquet"


def assert_names(ended: Ended, path: Path) -> None:
    """It says which file and what to do, in words of ours."""
    said = ended.err + ended.text
    assert str(path) in said
    assert "`mka1-usage verify`" in said
    for raw in ("Traceback", "Invalid Input Error", "IO Error", "No magic bytes", "Parquet magic"):
        assert raw not in said


@pytest.mark.parametrize("damage", [*DAMAGES, garble_pages])
@pytest.mark.parametrize(
    "name",
    [
        "usage_1m",
        "items",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("conversations", "responses", "observed_1h")
        ),
    ],
)
def test_a_query_is_answered_over_the_rest_and_the_damaged_file_is_named(
    home: Path, name: str, damage: Damage
) -> None:
    path = file_of(home, name)
    damage(path)
    ended = command(["sql", "--format", "csv", f"select * from {name}"])
    assert ended.code == 0
    assert len(ended.text.splitlines()) == 1 + len(DAYS) - 1
    assert_names(ended, path)
    assert ended.err.startswith("mka1-usage: warning: left out, since it is damaged: ")
    table = command(["sql", f"select * from {name}"])
    assert table.code == 0
    assert "2024-01-04" in table.text
    assert "2024-01-03" not in table.text


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.endswith(("_1m", "_1h")))
        for name in DATASETS
    ],
)
def test_a_file_of_any_table_keeps_no_table_from_being_queried(home: Path, name: str) -> None:
    damage = DAMAGES[list(DATASETS).index(name) % len(DAMAGES)]
    damage(file_of(home, name))
    ended = command(["sql", "--format", "csv", f"select count(columns(*)) from {name}"])
    assert ended.code == 0, ended.err
    assert_names(ended, file_of(home, name))
    others = [f"(select count(*) from {other})" for other in DATASETS if other != name]
    ended = command(["sql", "--format", "csv", f"select {', '.join(others)}"])
    assert ended.code == 0, ended.err
    if name != "coverage":
        assert ended.err == ""


@pytest.mark.parametrize("name", ["usage_1d", "items", "coverage"])
def test_a_catalog_that_leaves_a_file_out_says_so_at_every_query(home: Path, name: str) -> None:
    path = file_of(home, name)
    path.write_bytes(b"garbage")
    build_catalog(Lake(home / "lake"), home / "usage.duckdb")
    ended = command(["sql", "--format", "csv", "select count(*) from usage_1h"])
    assert (ended.code, ended.text.splitlines()[-1]) == (0, "4")
    assert_names(ended, path)


def test_the_shell_opens_over_the_rest(home: Path) -> None:
    catalog, lake = home / "usage.duckdb", Lake(home / "lake")
    told: list[str] = []
    with ad_hoc.without_damage(catalog, lake, told.append) as opened:
        assert (opened, told) == (catalog, [])
    path = file_of(home, "usage_1d")
    cut_short(path)
    with ad_hoc.without_damage(catalog, lake, told.append) as opened:
        out = BytesIO()
        ad_hoc.export(opened, lake, "select count(*) as n from usage_1d", "csv", out)
    assert out.getvalue() == b"n\n3\n"
    assert str(path) in told[0]


def test_a_query_that_is_wrong_is_told_as_it_is(home: Path) -> None:
    remove(file_of(home, "usage_1d"))
    for query in ("selec 1", "select nothing from usage_1h", "from no_such_table"):
        ended = command(["sql", query])
        assert ended.code == 2
        assert "damaged" not in ended.err
    assert command(["sql", "select 1/0, 'a'::int"]).code == 2


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["raw_usage", "usage_1m", "usage_1h", "usage_1d", "coverage"])
def test_no_command_shows_a_day_with_a_damaged_file_as_whole(
    home: Path, name: str, damage: Damage
) -> None:
    path = file_of(home, name)
    damage(path)
    status = command(["status", "--end", "2024-01-05"])
    assert status.code == 0
    assert_names(status, path)
    assert "--start 2024-01-03 --end 2024-01-04" in status.text
    assert status.text.splitlines()[1].split()[1] == (
        "##.#" if name in ("usage_1d", "coverage") else "##!#"
    )
    report = command(["report", "-o", "-", "--start", "2024-01-01", "--end", "2024-01-05"])
    assert report.code == 0
    assert_names(report, path)
    assert (
        "3 January 2024 is not loaded" in report.text.replace("\u00a0", " ")
        or "not loaded" in report.text
    )
    export = command(
        ["export", "out", "--table", "usage_1m", "--table", "usage_1d", "--table", "fact_usage"]
    )
    if name == "raw_usage":
        assert export.code == 0
    else:
        assert export.code == 1
        assert_names(export, path)
        assert not Path("out").exists()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "width"), [("usage_1d", "1d"), ("usage_1h", "1h"), ("coverage", "1d")]
)
def test_a_page_is_refused_where_it_takes_a_damaged_file(
    home: Path, name: str, width: str, damage: Damage
) -> None:
    path = file_of(home, name)
    damage(path)
    for more in ([], ["--partial"]):
        ended = command(
            ["buckets", "--start", "2024-01-01", "--end", "2024-01-05", "--width", width, *more]
        )
        assert ended.code == 1
        assert_names(ended, path)
        assert ended.text == ""
    other = ["buckets", "--start", "2024-01-01", "--end", "2024-01-03", "--width", width]
    assert command(other).code == 0


def test_the_end_of_what_is_loaded_is_not_where_a_damaged_file_is(home: Path) -> None:
    path = file_of(home, "usage_1d", DAYS[-1])
    remove(path)
    ended = command(["buckets", "--start", "2024-01-01"])
    assert ended.code == 1
    assert_names(ended, path)


@pytest.mark.parametrize("damage", [*DAMAGES, garble_pages])
def test_reconcile_shows_the_rest_or_says_why_not(home: Path, damage: Damage) -> None:
    path = file_of(home, "reconciliation")
    damage(path)
    ended = command(["reconcile"])
    assert_names(ended, path)
    assert ended.code == (1 if damage is garble_pages else 0)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["usage_1h", "usage_1d", "coverage"])
def test_alerts_say_that_they_could_not_read_everything(
    home: Path, name: str, damage: Damage
) -> None:
    path = file_of(home, name)
    damage(path)
    ended = command(["alerts", "--at", "2024-01-05"])
    assert ended.code == 1
    assert_names(ended, path)


@pytest.mark.parametrize("name", ["usage_1h", "usage_1d"])
def test_damage_that_only_reading_finds_is_named_too(home: Path, name: str) -> None:
    path = file_of(home, name)
    garble_pages(path)
    report = ["report", "-o", "-", "--start", "2024-01-04"]  # who is new takes the days before
    for args in (report, ["export", "out"]):
        ended = command(args)
        assert ended.code == 1
        assert_names(ended, path)
    ended = command(["buckets", "--start", "2024-01-01", "--width", name.removeprefix("usage_")])
    assert ended.code == 1
    assert_names(ended, path)


def test_a_day_that_is_gone_as_a_whole_is_named_once(home: Path) -> None:
    folder = file_of(home, "usage_1d").parent
    shutil.rmtree(folder)
    ended = command(["sql", "--format", "csv", "select count(*) from usage_1d"])
    assert (ended.code, ended.text.splitlines()[-1]) == (0, "3")
    assert ended.err.count("left out") == 1
    assert_names(ended, folder)
    build_catalog(Lake(home / "lake"), home / "usage.duckdb")
    query = "select distinct status from coverage where day = '2024-01-03'"
    assert command(["sql", "--format", "csv", query]).text == "status\nmissing\n"


def test_a_run_over_other_days_says_what_the_catalog_leaves_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = file_of(home, "conversations")
    cut_short(path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with EmulatorServer(World.from_events([Event(START + 60, "ada", "key", 1, 1, 5)])) as server:
        monkeypatch.setenv("MKA1_BASE_URL", server.base_url)
        monkeypatch.setenv("MKA1_API_KEY", server.api_key)
        ended = command(["run", "--usage-only", "--start", "2024-01-01", "--end", "2024-01-02"])
    assert ended.code == 0, ended.err
    assert_names(ended, path)
    assert "warning: left out, since it is damaged" in ended.err


def test_a_refresh_loads_days_with_a_damaged_file_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged_files = (("usage_1d", remove), ("usage_1m", cut_short), ("usage_1d", garble_pages))
    for day, (name, damage) in zip(DAYS[:3], damaged_files, strict=True):
        damage(file_of(home, name, day))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    events = [Event(START + n * DAY + 60, "ada", "key", 1, 1, 5) for n in range(len(DAYS))]
    with EmulatorServer(World.from_events(events)) as server:
        monkeypatch.setenv("MKA1_BASE_URL", server.base_url)
        monkeypatch.setenv("MKA1_API_KEY", server.api_key)
        ended = command(["refresh"])
    assert ended.code == 0, ended.err
    for day in DAYS[:3]:
        assert damaged(file_of(home, "usage_1d", day).parent, thorough=True) == {}
        assert str(day) in ended.err
