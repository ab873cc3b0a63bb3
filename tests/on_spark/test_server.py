"""A Spark Connect server beside DuckDB, over the files of a shared lake: the same rows and bytes.

Its sessions begin in America/New_York, and the days have the hour that is shown twice there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")
pytest.importorskip("sqlglot", reason="questions to Spark need the extra `spark`")

from pipeline.lake import engine, files
from pipeline.lake.catalog import build_catalog
from pipeline.lake.macros import MACROS, VIEWS
from pipeline.lake.schemas import USAGE
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.spark.connect import SparkError, connected
from pipeline.spark.question import ask, understood
from pipeline.spark.rollup import WIDTHS
from pipeline.timeline import day_window
from tests.conversations.seen import Conversation, land_seen
from tests.documented import blocks, pasted
from tests.fixtures_local import clean_environment, command
from tests.on_spark.conftest import DAYS, Shared, share
from tests.on_spark.test_questions import PAGE
from tests.on_spark.test_rollup import hashes, spoil
from tests.orchestration.conftest import MakeLab, labs
from tests.orchestration.lab import DAYS as LAB_DAYS
from tests.orchestration.test_spark import by_spark
from tests.spark import needs_java, spark_remote

pytestmark = [needs_java, pytest.mark.slow]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Three days of which one has hours and days that lack a row."""
    shared = share(tmp_path_factory.mktemp("wrong"))
    spoil(shared, tmp_path_factory.mktemp("lost"), DAYS[1])
    return shared


def test_spark_makes_the_bytes_that_duckdb_makes_and_commits_them_once(
    wrong: Shared, three_days: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, wrong.settings())
    monkeypatch.setenv("MKA1_USAGE_SPARK_REMOTE", spark_remote())
    assert hashes(wrong) != hashes(three_days)
    ended = command(["rollup", "--engine", "spark"])
    assert ended.code == 0, ended.err
    assert "3 days rolled up" in ended.err
    assert f"committed: {DAYS[1]}" in ended.err
    assert hashes(wrong) == hashes(three_days)
    assert not list(Path(wrong.place.warehouse).glob(".results*"))


def test_the_hour_that_new_york_shows_twice_is_two_hours(
    three_days: Shared, tmp_path: Path
) -> None:
    """By the job's own query, in a session whose clock shows both as 01:00."""
    from pipeline.spark.job import write_rollup

    with connected(spark_remote()) as session:
        session.conf.set("spark.sql.session.timeZone", "America/New_York")
        write_rollup(session, three_days.open().files("usage_1m"), str(tmp_path / "out"))
    for width in WIDTHS:
        name = USAGE[width].name
        for day in DAYS:
            written = tmp_path / "out" / f"width={width}" / f"day={day}"
            rows = pq.read_table(
                [*written.glob("*.parquet")], schema=USAGE[width].schema, partitioning=None
            )
            expected = pq.read_table(three_days.lake.file(name, day), partitioning=None)
            assert rows.to_pylist() == expected.to_pylist()
    hours = {
        datetime.fromisoformat(f"2024-11-03T{hour:02}:00+00:00")
        for hour in (5, 6)  # 01:00 in New York, both
    }
    path = three_days.lake.file("usage_1h", DAYS[1])
    assert hours <= {*pq.read_table(path, columns=["start_time"]).column(0).to_pylist()}


def test_a_question_has_the_same_answer_as_on_duckdb(
    three_days: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = (
        "with busy as (from top_users(2)) select u.start_time, u.day, u.num_operations, b.place "
        "from usage_1h u join busy b on u.user_id is not distinct from b.id "
        "where u.day = date '2024-11-03' and u.start_time >= timestamp '2024-11-03 05:00' "
        "order by all"
    )
    clean_environment(monkeypatch, tmp_path, three_days.settings())
    here = command(["sql", "--format", "json", query])
    there = command(
        ["sql", "--format", "json", "--engine", "spark", "--remote", spark_remote(), query]
    )
    assert here.code == 0, here.err
    assert there.code == 0, there.err
    assert json.loads(here.out)
    assert there.out == here.out


def test_records_that_stand_apart_are_of_their_own_days_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = share(tmp_path / "apart", days=1)
    days = [DAYS[0], DAYS[0] - timedelta(days=40), DAYS[0] - timedelta(days=400)]
    seen = [Conversation(f"c{day}", created_at=day_window(day).end - 0.5) for day in days]
    with closing(engine.connect()) as con:
        land_seen(con, shared.lake, *seen, loaded=[DAYS[0]])
    build_catalog(shared.lake, shared.home / "usage.duckdb")
    shared.open().commit(shared.lake)
    clean_environment(monkeypatch, tmp_path, shared.settings())
    query = "select id, day from conversations where day < date '2024-11-03' order by 1"
    here, there = (
        command(["sql", "--format", "json", query, *more])
        for more in ([], ["--engine", "spark", "--remote", spark_remote()])
    )
    assert [row["day"] for row in json.loads(here.out)] == sorted(map(str, days))
    assert there.out == here.out, there.err


def test_the_pages_commands_do_what_it_says(three_days: Shared, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), **three_days.settings()}
    lines = [line for block in blocks(PAGE.read_text(), "bash") for line in block.splitlines()]
    assert {line.split()[1] for line in lines} == {"rollup", "sql"}
    for written in lines:
        line = written.replace("sc://localhost:15002", spark_remote())
        line = line.replace("2024-01-01", str(DAYS[0])).replace("2024-01-04", str(DAYS[-1]))
        ended = pasted(line, tmp_path, environment)
        assert ended.returncode == 0, ended.stderr
        assert (
            "2 days rolled up" in ended.stderr or str(DAYS[0]) in ended.stdout or "Karachi" in line
        )


def test_what_spark_refuses_is_said_in_one_line(
    three_days: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, three_days.settings())
    args = ["--engine", "spark", "--remote", spark_remote()]
    ended = command(["sql", "select nothing from usage_1d", *args])
    assert ended.code == 2
    assert "name `nothing` cannot be resolved" in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == b""


def test_a_server_that_does_not_see_the_warehouse_is_said_in_one_line() -> None:
    gone = {date(2024, 11, 2): "/nowhere/usage_1d/data/day=2024-11-02/x.parquet"}
    with pytest.raises(SparkError, match=r"have to read and write the warehouse") as refused:
        ask(spark_remote(), understood("from usage_1d"), lambda _: gone, {})
    assert "\n" not in str(refused.value)
    assert not refused.value.of_question


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """Labs with an empty home."""
    with labs(tmp_path / "home") as make:
        yield make


def test_a_run_of_hours_and_days_alone_has_spark_roll_them_up(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    place = Place(f"sqlite:///{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))
    lab = make_lab(
        shared_catalog=place.catalog, shared_warehouse=place.warehouse, spark_remote=spark_remote()
    )
    assert lab.run(LAB_DAYS[0], LAB_DAYS[-1], checks=False).success
    shared = open_shared_lake(place)
    right = {day: of.manifest.files for day, of in shared.standing().items()}
    lost = tmp_path / "lost.parquet"
    rows = pq.read_table(lab.lake.file(USAGE["1h"].name, LAB_DAYS[1])).slice(1)
    files.write(USAGE["1h"], rows.to_batches(), lost, day_window(LAB_DAYS[1]))
    shared.replace({LAB_DAYS[1]: {USAGE["1h"].name: lost}})

    ran = by_spark(lab, ["usage_1h", "usage_1d"])
    assert ran.success, ran.failures
    assert {
        day: of.manifest.files for day, of in open_shared_lake(place).standing().items()
    } == right
    shown = ran.materialized
    assert {name for name, _ in shown} >= {"usage_1h", "usage_1d"}
    assert [shown["usage_1h", str(day)]["changed"].value for day in LAB_DAYS] == [
        False,
        True,
        False,
    ]
    assert (
        shown["usage_1h", str(LAB_DAYS[1])]["dagster/row_count"].value
        == right[LAB_DAYS[1]][USAGE["1h"].name].rows
    )
    assert not ran.failed_checks


@pytest.mark.parametrize("name", [*VIEWS, *(macro.name for macro in MACROS)])
def test_every_macro_has_the_same_answer_as_on_duckdb(
    three_days: Shared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("Spark takes seconds for each macro: --long runs them")
    clean_environment(monkeypatch, tmp_path, three_days.settings())
    macros = {macro.name: macro for macro in MACROS}
    arguments = ""
    if name in macros:
        given = ["'6h'" for default in macros[name].parameters.values() if not default]
        zone = ["tz := 'America/New_York'"] if "tz" in macros[name].parameters else []
        arguments = f"({', '.join(given + zone)})"
    query = ["sql", "--format", "csv", f"from {name}{arguments}"]
    here = command(query)
    there = command([*query, "--engine", "spark", "--remote", spark_remote()])
    assert (there.code, there.err) == (0, "")
    assert there.out == here.out
