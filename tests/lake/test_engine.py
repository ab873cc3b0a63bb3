"""Connections and views over files: wherever the files are, whatever their folders are called."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.lake import engine
from pipeline.lake.schemas import DATASETS, USAGE
from pipeline.lake.store import Lake, spilling
from tests.bounded import finished
from tests.lake.served import MIDNIGHT, raw_row, write_rows

Connection = duckdb.DuckDBPyConnection

ODD_NAMES = [
    "plain",
    "two words",
    'it\'s "quoted"',
    "sem;icolon",
    "st*r",
    "qu?stion",
    "br[ac]ket",
    "[!x]",
    "br{a,c}e",
    "**",
    "漢字 é",
    "new\nline",
    "%41",
    "$HOME",
    "user_id=5",
    "day=2020-01-01",
    "s3:",
    "~",
]


def test_a_query_is_read_from_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "pipeline"
    (package / "sql").mkdir(parents=True)
    (package / "sql" / "installed.sql").write_text("SELECT 1", encoding="utf-8")
    monkeypatch.setattr(engine, "_PACKAGE", package)
    assert engine.sql("installed") == "SELECT 1"


def test_a_query_that_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"sql/no_such_query\.sql"):
        engine.sql("no_such_query")


def setting(con: Connection, name: str) -> object:
    return con.execute("SELECT current_setting(?)", [name]).fetchall()[0][0]


def test_connections_are_in_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    with closing(engine.connect()) as con:
        assert setting(con, "TimeZone") == "UTC"


def test_connections_fetch_no_extensions() -> None:
    with closing(engine.connect()) as con:
        assert setting(con, "autoinstall_known_extensions") is False
        assert setting(con, "autoload_known_extensions") is False


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_can_be_chosen(threads: int) -> None:
    with closing(engine.connect(threads=threads)) as con:
        assert setting(con, "threads") == threads


def test_all_processors_are_used_where_there_is_memory_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [engine.threads_of(memory) for memory in (10**8, 6 * 10**8, 10**10)] == [1, 4, 8]


def test_a_database_has_the_memory_that_is_set_and_no_more_than_it_is_to_have(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path, memory=256 * 1024**2)
    with closing(engine.connect(lake)) as con:
        assert setting(con, "memory_limit") == "256.0 MiB"
    with closing(engine.connect(lake, threads=1, at_most=64 * 1024**2)) as con:
        assert setting(con, "memory_limit") == "64.0 MiB"


LARGE = "CREATE TEMP TABLE large AS SELECT md5(CAST(i AS VARCHAR)) AS a FROM range(700_000) r(i)"
SMALL = 15_000_000
"""Bytes of memory that this table outgrows."""


AMID_A_QUERY = """
import sys, threading
from contextlib import suppress
import duckdb
from pipeline.lake import engine
con, began = engine.connect(), threading.Event()
def ask():
    con.create_function("note", lambda it: began.set() or it, ["BIGINT"], "BIGINT", type="native")
    with suppress(duckdb.InterruptException):
        con.sql("SELECT count(*) FROM (SELECT note(1)), range(1000000) a, range(1000000) b "
                "WHERE hash(a.range, b.range) = 3").fetchall()
threading.Thread(target=ask, daemon=True).start()
began.wait()
sys.exit(7)
"""


@pytest.fixture
def spilled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The folders that databases were given to spill into."""
    folders: list[Path] = []

    @contextmanager
    def noted(lake: Lake) -> Iterator[Path]:
        with spilling(lake) as folder:
            folders.append(folder)
            yield folder

    monkeypatch.setattr(engine, "spilling", noted)
    engine.release()
    yield folders
    engine.release()


def test_what_outgrows_memory_spills_into_the_lake_and_leaves_nothing(
    tmp_path: Path, spilled: list[Path]
) -> None:
    one, other = (Lake(tmp_path / name, memory=SMALL) for name in ("it's [one]", "other"))
    for lake in (one, other, one):  # a folder that was spilled into can't be changed
        lake.root.mkdir(exist_ok=True)
        with closing(engine.connect(lake, threads=1)) as con:
            assert setting(con, "temp_directory") == str(spilled[-1])
            assert spilled[-1].is_relative_to(lake.root)
            con.execute(LARGE)
            assert [*spilled[-1].iterdir()] != []
    engine.release()
    assert [*tmp_path.rglob("spilled-*")] == []


def test_reading_a_lake_that_needs_no_disk_makes_no_folder_in_it(
    tmp_path: Path, spilled: list[Path]
) -> None:
    with closing(engine.connect(Lake(tmp_path))) as con:
        assert con.sql("SELECT 1").fetchall() == [(1,)]
        assert [folder for folder in spilled if not folder.exists()] == spilled[-1:]


@pytest.mark.parametrize("lake", [None, Lake(Path("/proc/no-lake-here"))])
def test_what_can_not_be_written_to_the_lake_spills_into_a_temporary_folder(
    lake: Lake | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.release()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(engine.connect(lake)) as con:
        assert Path(str(setting(con, "temp_directory"))).parent == tmp_path
    engine.release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ends_amid_a_query_of_a_thread_ends_as_it_was_told_to() -> None:
    done = finished([sys.executable, "-c", AMID_A_QUERY], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@example(text="'; DROP TABLE x; --")
@example(text="\\'")
def test_a_literal_is_the_text_it_was_made_of(con: Connection, text: str) -> None:
    assert con.sql(f"SELECT {engine.literal(text)}").fetchall() == [(text,)]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_is_read_whatever_its_folder_is_called(
    con: Connection, tmp_path: Path, name: str
) -> None:
    path = write_rows(
        "usage_1h",
        tmp_path / name / "usage_1h.parquet",
        [{"start_time": MIDNIGHT, "user_id": "ada", "num_operations": 7}],
    )
    engine.bind(con, {"odd": (USAGE["1h"], [path])})
    assert con.sql("SELECT user_id, num_operations FROM odd").fetchall() == [("ada", 7)]
    engine.bind(con, {"odd": (None, [path])})
    assert con.sql("SELECT * FROM odd").columns == USAGE["1h"].schema.names


@pytest.mark.parametrize(
    ("name", "sibling"), [("a*", "ab"), ("a?", "ab"), ("[ab]", "a"), ("**", "ab"), ("a[*]", "a*")]
)
def test_a_folder_named_like_a_pattern_stands_for_itself_alone(
    con: Connection, tmp_path: Path, name: str, sibling: str
) -> None:
    for folder in (name, sibling):
        write_rows("usage_1h", tmp_path / folder / "x.parquet", [{"user_id": folder}])
    engine.bind(con, {"patterned": (USAGE["1h"], [tmp_path / name / "x.parquet"])})
    assert con.sql("SELECT user_id FROM patterned").fetchall() == [(name,)]


@pytest.mark.parametrize("name", ["plain", "~", "s3:", "it's"])
def test_a_relative_path_is_relative_to_the_working_folder(
    con: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows("usage_1h", tmp_path / name / "x.parquet", [{"user_id": "ada"}])
    engine.bind(con, {"relative": (USAGE["1h"], [Path(name) / "x.parquet"])})
    assert con.sql("SELECT user_id FROM relative").fetchall() == [("ada",)]


def test_an_input_has_the_contracts_columns_by_name(con: Connection, tmp_path: Path) -> None:
    schema = USAGE["1d"].schema
    turned = pa.schema([*reversed(list(schema)), pa.field("more", pa.int64())])
    pq.write_table(turned.empty_table(), tmp_path / "x.parquet")
    engine.bind(con, {"turned": (USAGE["1d"], [tmp_path / "x.parquet"])})
    assert con.sql("FROM turned").columns == schema.names


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_without_files_is_an_empty_table_of_the_contracts_types(
    con: Connection, name: str
) -> None:
    engine.bind(con, {"nothing": (DATASETS[name], [])})
    table = con.sql("FROM nothing").to_arrow_table()
    assert table.num_rows == 0
    assert table.schema == DATASETS[name].schema


def test_an_input_without_files_and_without_a_dataset_is_refused(con: Connection) -> None:
    with pytest.raises(ValueError, match="needs a dataset"):
        engine.bind(con, {"nothing": (None, [])})


def registered(con: Connection) -> None:
    con.register("input", pa.table({"user_id": ["registered"]}))


def bound(con: Connection) -> None:
    engine.bind(con, {"input": (USAGE["1m"], [])})


@pytest.mark.parametrize("earlier", [registered, bound])
def test_a_new_input_takes_the_place_of_the_earlier_one(
    con: Connection, tmp_path: Path, earlier: Callable[[Connection], None]
) -> None:
    earlier(con)
    path = write_rows("raw_usage", tmp_path / "x.parquet", [raw_row({"user_id": "new"})])
    engine.bind(con, {"input": (DATASETS["raw_usage"], [path])})
    assert con.sql("SELECT user_id FROM input").fetchall() == [("new",)]
