"""docs/engines.md keeps its word: its snippets are run, on a shared lake in a folder and on S3.

What they answer is what the emulator counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, date
from pathlib import Path
from typing import Any, Final

import duckdb
import polars as pl
import pytest

pytest.importorskip("pyiceberg", reason="the extra `shared` has what reads a shared lake")

from pipeline.apart import apart
from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.timeline import day_of, day_range, parse_time
from tests.servers import S3, s3
from tests.spark import needs_java, spark_remote
from tests.synced import Reader
from tests.truth import reported

PAGE: Final = (Path(__file__).parents[1] / "docs" / "engines.md").read_text(encoding="utf-8")
SNIPPETS: Final = dict(
    re.findall(r"^```python(| [\w-]+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
)
CATALOG: Final = "sqlite:////srv/usage/catalog.db"
DAYS: Final = list(day_range(day_of(parse_time("2024-01-01")), day_of(parse_time("2024-01-04"))))
FIRST_ASKED: Final = date(2024, 1, 2)
"""From here on, the page says, its snippets count."""


class World:
    """The same days in two shared lakes, and what they come to."""

    def __init__(self, folder: Path, storage: S3) -> None:
        world = synthetic_world(users=9, conversations_per_user_day=3)
        home = Lake(folder / "home" / "lake")
        with EmulatorServer(world) as server:
            reader = Reader(server, home, DAYS)
            reader.load()
            reader.sync()
        self.catalogs = {"folder": folder / "folder.db", "s3": folder / "s3.db"}
        warehouses = {"folder": f"{folder}/warehouse", "s3": storage.warehouse}
        for kind, path in self.catalogs.items():
            shared = open_shared_lake(Place(f"sqlite:///{path}", warehouses[kind]))
            assert set(DAYS) <= set(shared.commit(home))
        self.endpoint = storage.endpoint
        self.home = home
        self.operations = {
            day: sum(row[-1] or 0 for row in reported(world, "1d", [day])) for day in DAYS
        }

    def after(
        self, kind: str, name: str, replaced: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """The variables that there are after a snippet, run where the catalog was opened."""
        opening = SNIPPETS["" if kind == "folder" else " s3"]
        opening = opening.replace(CATALOG, f"sqlite:///{self.catalogs[kind]}")
        opening = opening.replace("https://s3.example", self.endpoint)
        variables: dict[str, Any] = {}
        exec(compile(opening, "docs/engines.md", "exec"), variables)
        snippet = SNIPPETS[f" {name}"]
        for words, others in (replaced or {}).items():
            snippet = snippet.replace(words, others)
        exec(compile(snippet, "docs/engines.md", "exec"), variables)
        return variables


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with s3() as storage, pytest.MonkeyPatch.context() as patch:
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        patch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # as the page says
        yield World(tmp_path_factory.mktemp("engines"), storage)


def by_day(answer: Any) -> dict[date, int]:
    """An engine's answer: the start of a day, and the operations in it."""
    if isinstance(answer, pl.DataFrame):
        answer = answer.rows()
    elif not isinstance(answer, list):
        answer = [tuple(row.values()) for row in answer.to_pylist()]
    return {start.astimezone(UTC).date(): operations for start, operations in answer}


@pytest.mark.parametrize("kind", ["folder", "s3"])
@pytest.mark.parametrize("name", ["pyiceberg", "polars", "pyarrow", "duckdb"])
def test_every_engine_counts_what_the_emulator_counts(world: World, kind: str, name: str) -> None:
    if (kind, name) == ("s3", "duckdb"):
        name = "duckdb-s3"
    answer = by_day(world.after(kind, name)["answer"])
    assert answer == {
        day: operations for day, operations in world.operations.items() if day >= FIRST_ASKED
    }


def test_tables_of_one_moment_have_the_same_sums(world: World) -> None:
    hours, days = world.after("folder", "together")["answer"]
    total = sum(world.operations.values())
    assert sum(hours["num_operations"].to_pylist()) == total
    assert sum(days["num_operations"].to_pylist()) == total


@pytest.mark.parametrize("name", ["conversations", "items", "responses"])
def test_records_have_the_day_of_their_file(world: World, name: str) -> None:
    """Though no file holds it: the table's partitions do."""
    usage = world.after("folder", "pyiceberg")["catalog"].load_table(f"mka1_usage.{name}")
    with closing(duckdb.connect()) as con:
        paths = [str(path) for path in world.home.files(name)]
        [(rows,)] = con.execute(
            "SELECT count(*) FROM read_parquet($paths)", {"paths": paths}
        ).fetchall()
    found = usage.scan().to_arrow()
    frame = pl.scan_iceberg(usage).collect()
    assert found.num_rows == frame.height == rows
    time = "added_at" if name == "items" else "created_at"
    days = dict(zip(found["id"].to_pylist(), found["day"].to_pylist(), strict=True))
    assert dict(frame.select("id", "day").rows()) == days
    loaded = world.home.days("usage_1d")
    for row in found.to_pylist():
        day = row[time].astimezone(UTC).date()
        assert row["day"] == (day if day in loaded else apart(day))


@needs_java
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support:FutureWarning")
def test_spark_counts_what_the_emulator_counts(
    world: World, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("Spark takes seconds to start: --long runs it")
    variables = world.after("folder", "spark", {"sc://spark.example:15002": spark_remote()})
    answer = [tuple(row) for row in variables["answer"].collect()]
    variables["spark"].stop()
    assert by_day(answer) == {
        day: operations for day, operations in world.operations.items() if day >= FIRST_ASKED
    }


def test_every_snippet_is_run() -> None:
    run = ["pyiceberg", "polars", "pyarrow", "duckdb", "duckdb-s3", "spark", "together"]
    assert set(SNIPPETS) == {"", " s3", *(f" {name}" for name in run)}
