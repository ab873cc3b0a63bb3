"""Many workers on Postgres, S3 and a REST catalog; a year of commits. With `--long` only.

What CI runs of the same stands in `test_many_workers.py`: two workers, SQLite and S3 by moto.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from pipeline.emulator import EmulatorServer
from pipeline.forget import forget, person_of
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.shared_lake.catalogs import SharedCatalog, file_properties, open_catalog
from tests.benchmarks import shared as bench
from tests.bounded import LONG, started
from tests.forget.people import DAYS, WHO, new_world, places_of
from tests.servers import postgres, seaweedfs
from tests.shared_lake.contest import OPERATIONS
from tests.shared_lake.shared import objects_naming
from tests.synced import Reader

ROOT: Final = Path(__file__).parents[2]
WORKERS: Final = 4
OWN_DAYS: Final = 10
CONTESTED: Final = [date(2024, 1, 1) + timedelta(days=number) for number in range(20)]
READS: Final = 500
READ_WHOLE: Final = 10
"""One read of so many reads the rows too; the others read what tables say of their files."""
WIDTHS: Final = ("usage_1m", "usage_1h", "usage_1d")
PLACES: Final = ("postgres, folder", "postgres, s3", "rest catalog, s3")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LONG),
    pytest.mark.filterwarnings("ignore:Iceberg scan planning"),
]


@pytest.fixture(autouse=True)
def _only_long(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("minutes each: --long runs them")


@pytest.fixture
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """An empty shared lake, on servers that are programs of their own."""
    with ExitStack() as servers:
        if request.param == "postgres, folder":
            yield Place(servers.enter_context(postgres()), str(tmp_path / "warehouse"))
            return
        weed = servers.enter_context(seaweedfs())
        for name, value in weed.s3.environment.items():
            monkeypatch.setenv(name, value)
        if request.param == "postgres, s3":
            weed.s3.files().create_dir("ordinary")
            yield Place(servers.enter_context(postgres()), "s3://ordinary/usage")
        else:
            yield Place(weed.catalog.replace("://", f"://{weed.credential}@"), weed.warehouse)


def days_of(worker: int) -> list[date]:
    """What a worker works on: days that all want, and days of its own."""
    first = CONTESTED[-1] + timedelta(days=1 + worker * OWN_DAYS)
    return [*CONTESTED, *(first + timedelta(days=number) for number in range(OWN_DAYS))]


def command(place: Place, folder: Path, worker: int) -> list[str]:
    """The process of a worker, with a home of its own."""
    task = {
        "catalog": place.catalog,
        "warehouse": place.warehouse,
        "home": str(folder / f"home-{worker}"),
        "name": f"worker-{worker}",
        "days": [day.isoformat() for day in days_of(worker)],
    }
    return [sys.executable, "-m", "tests.shared_lake.contest", json.dumps(task)]


def of_one_moment(catalog: SharedCatalog, names: Sequence[str]) -> list[Table]:
    """Tables between which no commit lies, as docs/engines.md has it; none before the first one."""
    order = ("mka1_usage", "published_days")
    while True:
        try:
            orders_all = catalog.load_table(order)
        except NoSuchTableError:
            return []
        if orders_all.current_snapshot() is None:
            return []
        before = orders_all.metadata_location
        tables = [catalog.load_table(("mka1_usage", name)) for name in names]
        if catalog.load_table(order).metadata_location == before:
            return tables


def rows_by_day(table: Table) -> dict[date, int]:
    """How many rows each day has, by the table's own words."""
    epoch = date(1970, 1, 1)
    return {
        epoch + timedelta(days=int(task.file.partition[0])): task.file.record_count
        for task in table.scan().plan_files()
    }


def operations_by_day(table: Table) -> dict[date, int]:
    """What each day's rows come to, as Polars reads them."""
    day = pl.col("start_time").dt.date()
    found = pl.scan_iceberg(table).group_by(day).agg(pl.col("num_operations").sum())
    return dict(found.collect().rows())


def read(catalog: SharedCatalog, *, whole: bool) -> int:
    """Look at the tables of one moment, and fail where they are not of one; how many days."""
    tables = of_one_moment(catalog, [*WIDTHS, "coverage", "published_days"])
    if not tables:
        return 0
    counted = [rows_by_day(table) for table in tables]
    minutes = counted[0]
    assert counted[1] == counted[2] == minutes
    assert counted[3].keys() == counted[4].keys() == minutes.keys()
    if whole:
        expected = {day: rows * OPERATIONS for day, rows in minutes.items()}
        for table in tables[: len(WIDTHS)]:
            assert operations_by_day(table) == expected
    return len(minutes)


@pytest.mark.parametrize("anywhere", PLACES, indirect=True)
def test_whoever_is_forgotten_is_in_no_object_and_no_snapshot(
    anywhere: Place, tmp_path: Path
) -> None:
    """Searched by another search, in copies of all objects that the server has."""
    home = tmp_path / "home"
    with EmulatorServer(new_world()) as server:
        reader = Reader(server, Lake(home / "lake"), DAYS)
        reader.load()
        shared = open_shared_lake(anywhere)
        shared.commit(reader.lake)
        reader.sync()
        shared.commit(reader.lake)
        assert objects_naming(anywhere, tmp_path / "copy", WHO[:15])
        outcome = forget(reader.lake, replace(places_of(home), shared=shared), person_of(WHO, None))
        assert outcome.proven
        assert outcome.searched.kinds["Avro"] > 20
        assert objects_naming(anywhere, tmp_path / "copy", WHO[:15]) == []
        assert list(shared.verify()) == []
        other = Reader(server, Lake(tmp_path / "other" / "lake"), DAYS)
        shared.hydrate(other.lake)
        other.load()
        other.sync(full=True)
        shared.commit(other.lake)
    assert objects_naming(anywhere, tmp_path / "copy", WHO[:15]) == []


@pytest.mark.parametrize("anywhere", PLACES, indirect=True)
def test_four_workers_lose_no_day_and_readers_never_see_part_of_one(
    anywhere: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = open_catalog(anywhere, file_properties(anywhere))
    began, meanwhile, reads = datetime.now(UTC), 0, 0
    with ExitStack() as running:
        workers = [
            running.enter_context(
                started(
                    command(anywhere, tmp_path, worker),
                    seconds=LONG,
                    cwd=ROOT,
                    stdout=running.enter_context((tmp_path / f"refused-{worker}").open("w")),
                )
            )
            for worker in range(WORKERS)
        ]
        while reads < READS or any(worker.poll() is None for worker in workers):
            meanwhile += any(worker.poll() is None for worker in workers)
            read(catalog, whole=reads % READ_WHOLE == 0)
            reads += 1
        assert [worker.wait(LONG) for worker in workers] == [0] * WORKERS
    taken = datetime.now(UTC) - began
    refused = sum(int((tmp_path / f"refused-{n}").read_text()) for n in range(WORKERS))
    with capsys.disabled():
        print(
            f"\n{anywhere.shown.partition(':')[0]}, {anywhere.warehouse.partition(':')[0]}: "
            f"{refused} commits refused, {reads} reads, {meanwhile} of them meanwhile, "
            f"{taken.total_seconds():.0f} s"
        )
    assert meanwhile > READS // 10
    assert refused > 0

    own = {day for worker in range(WORKERS) for day in days_of(worker)} - {*CONTESTED}
    expected = dict.fromkeys(own, 1) | dict.fromkeys(CONTESTED, WORKERS)
    for table in of_one_moment(catalog, WIDTHS):
        assert rows_by_day(table) == expected
        assert operations_by_day(table) == {day: OPERATIONS * n for day, n in expected.items()}
    shared = open_shared_lake(anywhere)
    assert shared.days() == sorted(expected)
    assert list(shared.verify()) == []
    assert len(shared.hydrate(Lake(tmp_path / "reader" / "lake"))) == len(expected)


def test_a_year_of_commits_does_not_slow_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By medians of the same run, so a busy machine is busy for both."""
    with postgres() as catalog:
        report = bench.measured(Place(catalog, str(tmp_path / "warehouse")), tmp_path)
    with capsys.disabled():
        print(f"\n{report.markdown()}")
    assert report.ratio < bench.MOST_SLOWER
