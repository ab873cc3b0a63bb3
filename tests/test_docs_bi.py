"""docs/bi.md keeps its word: every command, query and snippet in it is run here, in its order."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import duckdb
import pytest
import sqlalchemy as sa

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.export.export import DATABASE, export
from pipeline.lake.store import Lake
from pipeline.timeline import day_of, day_range, parse_time
from tests.bounded import finished
from tests.documented import blocks, pasted
from tests.synced import Reader

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
DAYS: Final = list(day_range(day_of(parse_time("2024-01-01")), day_of(parse_time("2024-01-03"))))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three days in `data`, synced, the names of the page, and its exports made."""
    folder = tmp_path_factory.mktemp("place")
    with EmulatorServer(synthetic_world(users=9, conversations_per_user_day=3)) as server:
        reader = Reader(server, Lake(folder / "data" / "lake"), DAYS)
        reader.load()
        reader.sync()
    [names] = blocks(PAGE, "csv")
    (folder / "names.csv").write_text(names, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def environment() -> Mapping[str, str]:
    """No settings, and the virtual environment's commands first on the path."""
    bin_ = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}


def test_every_command_does_what_it_should(place: Path, environment: Mapping[str, str]) -> None:
    commands = [line for block in blocks(PAGE, "bash") for line in block.splitlines()]
    assert len([line for line in commands if line.startswith("mka1-usage export")]) == 8
    for command in commands:
        done = pasted(command, place, environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip(), command
        notes = [line for line in done.stderr.splitlines() if "note:" in line]
        expected = {
            "--end 2024-01-08": "mka1-usage: note: not loaded: 2024-01-04 to 2024-01-07",
            "duckdb": "mka1-usage: note: fact_costs is empty: the lake has no rows for it",
        }
        said = [note for part, note in expected.items() if f" {part}" in command]
        assert notes == (said if command.startswith("mka1-usage") else []), command
    found = {str(path.relative_to(place)) for path in place.glob("*/[!.]*")}
    assert {"data/export", "bi/mka1_usage.duckdb", "sheets/dim_user.csv"} <= found
    assert len(list(place.glob("lake-by-day/fact_usage/day=*/fact_usage.parquet"))) == len(DAYS)


@pytest.fixture(scope="module")
def exported(place: Path) -> Path:
    """What the commands of the page leave, for its queries and snippets."""
    lake = Lake(place / "data" / "lake")
    export(lake, place / "data" / "export")
    export(lake, place / "queried", form="duckdb")
    return place


@pytest.mark.parametrize("query", blocks(PAGE, "sql"))
def test_every_query_has_an_answer(query: str, exported: Path) -> None:
    with closing(duckdb.connect(str(exported / "queried" / DATABASE), read_only=True)) as con:
        assert con.sql(query).fetchall()


def test_the_query_for_a_dataset_loses_no_call(exported: Path) -> None:
    [query] = [query for query in blocks(PAGE, "sql") if "is_final,\n" in query]
    total = "SELECT CAST(sum(num_operations) AS BIGINT), count(*) FROM"
    with closing(duckdb.connect(str(exported / "queried" / DATABASE), read_only=True)) as con:
        [joined] = con.sql(f"{total} ({query})").fetchall()
        [alone] = con.sql(f"{total} usage_1h").fetchall()
    assert joined == alone


@pytest.mark.parametrize("snippet", blocks(PAGE, "python"))
def test_a_snippet_of_python_runs(snippet: str, exported: Path) -> None:
    done = finished([sys.executable, "-W", "error", "-c", snippet], cwd=exported)
    assert "user_0000" in done.stdout


@pytest.fixture
def superset(exported: Path) -> Iterator[sa.Connection]:
    """A connection by the URI that the page gives."""
    [uri] = re.findall(r"`(duckdb:////\S+)`", PAGE)
    assert uri.endswith(f"/{DATABASE}?access_mode=read_only&enable_external_access=false")
    engine = sa.create_engine(uri.replace("//path/to/bi", f"/{exported}/queried"))
    with engine.connect() as con:
        yield con
    engine.dispose()


def test_the_uri_for_superset_opens_the_file_and_changes_nothing(superset: sa.Connection) -> None:
    assert "fact_usage" in sa.inspect(superset).get_table_names(schema="main")
    with pytest.raises(sa.exc.DBAPIError, match="read-only"):
        superset.execute(sa.text("DROP TABLE fact_usage"))
    with pytest.raises(sa.exc.DBAPIError, match="disabled"):
        superset.execute(sa.text("FROM read_text('/etc/hostname')"))


def test_sqlalchemy_2_1_can_not_list_columns_yet(superset: sa.Connection) -> None:
    """When it can, the page is to say so."""
    assert sa.__version__.startswith("2.1.")
    with pytest.raises(sa.exc.ProgrammingError, match="pg_collation"):
        sa.inspect(superset).get_columns("fact_usage")
