"""`usage.duckdb`: anyone can open it, at any time, from anywhere, and sees what is published."""

from __future__ import annotations

import shutil
import sys
import threading
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from subprocess import PIPE

import duckdb
import pyarrow as pa
import pytest

from pipeline.lake import catalog, commit, engine
from pipeline.lake.catalog import build_catalog
from pipeline.lake.macros import MACROS, VIEWS
from pipeline.lake.schemas import DATASETS, LEDGER_DATASETS, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import day_window
from tests.bounded import LIMIT, join, started
from tests.lake.served import DAY, MIDNIGHT, WINDOW, plant, write_rows


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        rows: list[tuple[object, ...]] = con.sql(query).fetchall()
        return rows


def load(lake: Lake, day: date = DAY) -> None:
    """A row in each dataset, in those of usage one of ada's."""
    row = {"start_time": day_window(day).start, "user_id": "ada", "num_operations": 3}
    with lake.staging() as folder, closing(engine.connect()) as con:
        paths = {
            name: write_rows(
                name,
                folder / f"{name}.parquet",
                [{c: row[c] for c in dataset.schema.names if c in row}],
                day_window(day),
            )
            for name, dataset in DATASETS.items()
            if name not in LEDGER_DATASETS
        }
        commit.publish(con, lake, day, paths, {})


TABLES = [("damaged_files",), ("names",), ("prices",), ("time_zones",)]
"""What is no view: no data of usage."""


def test_it_holds_views_and_macros_and_no_data_of_usage(lake: Lake) -> None:
    load(lake)
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
    assert ask(path, views) == [(name,) for name in sorted({*DATASETS, *VIEWS})]
    assert ask(path, "SELECT table_name FROM duckdb_tables() ORDER BY 1") == TABLES
    macros = "SELECT function_name FROM duckdb_functions() WHERE NOT internal ORDER BY 1"
    names = sorted([*(macro.name for macro in MACROS), "utc_now"])
    assert ask(path, macros) == [(name,) for name in names]


def columns_of(name: str) -> list[str]:
    """The contract's, and the day of rows that have a time."""
    names = list(DATASETS[name].schema.names)
    return names + ["day"] * any(it in names for it in ("start_time", "created_at", "added_at"))


def test_views_show_what_is_published_in_the_contracts_columns(lake: Lake) -> None:
    load(lake)
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    for name in DATASETS.keys() - LEDGER_DATASETS.keys():
        with closing(duckdb.connect(str(path), read_only=True)) as reader:
            assert reader.sql(f"FROM {name}").columns == columns_of(name)
            assert reader.sql(f"SELECT count(*) FROM {name}").fetchall() == [(1,)]
    for name in USAGE_DATASETS:
        query = f"SELECT CAST(epoch(start_time) AS BIGINT), user_id, num_operations FROM {name}"
        assert ask(path, query) == [(MIDNIGHT, "ada", 3)]


def test_views_say_what_they_are(lake: Lake) -> None:
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    query = "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
    comments = {name: str(comment) for name, comment in ask(path, query)}
    for name, dataset in DATASETS.items():
        assert dataset.description in comments[name]
        assert dataset.grain in comments[name]


@pytest.mark.parametrize(
    "present",
    [[], ["usage_1d"], ["raw_usage", "usage_1m"], ["conversations", "reconciliation"]],
    ids=str,
)
def test_a_dataset_that_has_no_file_yet_is_an_empty_typed_view(
    lake: Lake, present: list[str]
) -> None:
    for name in present:
        plant(lake, name, [{}])
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    for name, dataset in DATASETS.items():
        with closing(duckdb.connect(str(path), read_only=True)) as reader:
            table = reader.sql(f"FROM {name}").to_arrow_table()
            if name != "coverage":
                assert table.num_rows == (name in present)
            assert table.schema.names == columns_of(name)
            for column in dataset.schema:
                found = table.schema.field(column.name).type
                if column.name == "day":
                    assert found == pa.date32()
                elif pa.types.is_timestamp(column.type):
                    assert found == pa.timestamp("us")
                else:
                    assert found == column.type


def test_it_shows_all_tables_as_they_stood_together_until_it_is_built_anew(lake: Lake) -> None:
    load(lake)
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    load(lake, DAY + timedelta(days=1))
    plant(lake, "usage_1d", [])
    assert ask(path, "SELECT count(*) FROM usage_1d") == [(1,)]
    build_catalog(lake, path)
    assert ask(path, "SELECT count(*) FROM usage_1d") == [(1,)]
    assert ask(path, "SELECT count(*) FROM usage_1h") == [(2,)]


def test_unfinished_work_is_not_seen(lake: Lake) -> None:
    load(lake)
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    with lake.staging() as folder:
        target = folder / "usage_1d" / f"day={DAY}"
        target.mkdir(parents=True)
        (target / "usage_1d.parquet").write_bytes(b"half a file")
        assert ask(path, "SELECT count(*) FROM usage_1d") == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "two words",
        'it\'s "quoted"',
        "sem;icolon",
        "st*r",
        "**",
        "qu?stion",
        "br[ac]ket",
        "[!x]",
        "br{a,c}e",
        "漢字 é",
        "user_id=5",
        "day=2020-01-01",
        "%41 #1",
        "new\nline",
    ],
)
def test_a_home_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    for home in (tmp_path / name, tmp_path / "br[ac]ketX", tmp_path / "stXr"):
        load(Lake(home / "lake"))
    path = build_catalog(Lake(tmp_path / name / "lake"), tmp_path / name / "usage.duckdb")
    assert ask(path, "SELECT user_id, api_key_id, num_operations FROM usage_1d") == [
        ("ada", None, 3)
    ]


@pytest.mark.parametrize("name", ["home", "~", "s3:", "md:home"])
def test_it_opens_from_any_folder_also_when_built_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake(Path(name) / "lake")
    load(lake)
    build_catalog(lake, Path(name) / "usage.duckdb")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ask(tmp_path / name / "usage.duckdb", "SELECT num_operations FROM usage_1d") == [(3,)]


READER = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
print(con.sql("SELECT count(*) FROM usage_1d").fetchall()[0][0], flush=True)
sys.stdin.readline()
print(con.sql("SELECT count(*) FROM usage_1d").fetchall()[0][0], flush=True)
"""


def test_it_is_replaced_while_another_process_has_it_open(lake: Lake) -> None:
    load(lake)
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    before = path.stat().st_ino
    with started([sys.executable, "-c", READER, str(path)], stdin=PIPE, stdout=PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "1\n"
        plant(lake, "usage_1d", [], DAY + timedelta(days=1))
        build_catalog(lake, path)
        assert path.stat().st_ino != before
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "1\n"
        assert reader.wait(LIMIT) == 0
    assert ask(path, "SELECT count(*) FROM usage_1d") == [(1,)]


def test_it_is_replaced_whole_never_written_to(lake: Lake) -> None:
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    with closing(duckdb.connect(str(path))) as mine:
        mine.execute("CREATE TABLE somebodys AS SELECT 1")
    load(lake)
    build_catalog(lake, path)
    assert ask(path, "SELECT table_name FROM duckdb_tables() ORDER BY 1") == TABLES
    assert ask(path, "SELECT count(*) FROM usage_1d") == [(1,)]


def test_clients_since_duckdb_1_0_can_read_it(lake: Lake) -> None:
    path = build_catalog(lake, lake.root.parent / "usage.duckdb")
    header = path.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64


def test_a_build_that_fails_leaves_the_old_one_and_nothing_else(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lake.root.parent
    load(lake)
    path = build_catalog(lake, home / "usage.duckdb")
    before = path.read_bytes()
    monkeypatch.setattr(catalog, "literal", lambda text: f"'{text}")
    with pytest.raises(duckdb.Error):
        build_catalog(lake, path)
    assert path.read_bytes() == before
    assert {entry.name for entry in home.iterdir()} == {"lake", "usage.duckdb"}


def test_a_disk_that_is_full_leaves_the_old_one_and_nothing_else(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lake.root.parent
    load(lake)
    path = build_catalog(lake, home / "usage.duckdb")
    before = path.read_bytes()

    def half(_: Path, target: Path) -> None:
        target.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="No space left"):
        build_catalog(lake, path)
    assert path.read_bytes() == before
    assert {entry.name for entry in home.iterdir()} == {"lake", "usage.duckdb"}


def test_what_a_killed_build_left_is_gone_after_the_next(lake: Lake) -> None:
    home = lake.root.parent
    path = home / "usage.duckdb"
    (home / ".usage.duckdb.new").write_bytes(b"half a file")
    build_catalog(lake, path)
    assert {entry.name for entry in home.iterdir()} == {"lake", "usage.duckdb"}
    assert ask(path, "SELECT count(*) FROM usage_1d") == [(0,)]


def test_a_build_waits_for_the_one_before_so_that_no_old_view_of_the_lake_comes_last(
    lake: Lake,
) -> None:
    path = lake.root.parent / "usage.duckdb"
    with lake.lock("catalog"):
        waiting = threading.Thread(target=build_catalog, args=(lake, path))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        load(lake)
    join(waiting)
    assert ask(path, "SELECT count(*) FROM usage_1d") == [(1,)]


def test_the_folder_of_the_catalog_is_made(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "usage.duckdb"
    assert build_catalog(lake, path) == path
    assert ask(path, f"SELECT count(*) FROM usage_1h WHERE start_time < to_timestamp({WINDOW.end})")
