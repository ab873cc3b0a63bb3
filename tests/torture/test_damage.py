"""The lake damaged by hand, in each way that there is: verify names what was touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.emulator import EmulatorServer
from pipeline.lake.schemas import LEDGER_DATASETS, USAGE_DATASETS
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from tests.torture.conftest import Figures
from tests.torture.scenes import Worker, catalog_of, days, exact, world

DAY, OTHER = days(2)
TABLES = (*USAGE_DATASETS, *LEDGER_DATASETS)


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    """What the days are loaded from."""
    with EmulatorServer(world(2)) as server:
        yield server


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """What loads them."""
    with Worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def untouched(
    tmp_path_factory: pytest.TempPathFactory, server: EmulatorServer, worker: Worker
) -> Path:
    """A home with two days loaded."""
    home = tmp_path_factory.mktemp("untouched") / "home"
    assert worker.load(server, home / "lake", [DAY, OTHER]) == "done"
    return home


def version(lake: Lake) -> Path:
    found = lake.version(DAY)
    assert found is not None
    return found


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rewrite(path: Path) -> None:
    """The same rows, written by somebody else."""
    pq.write_table(pq.ParquetFile(path).read(), path)


def take_from_the_other_day(path: Path) -> None:
    shutil.copyfile(path.parents[2] / str(OTHER) / path.parent.name / path.name, path)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


TO_FILES: list[Callable[[Path], None]] = [
    *(flip_a_bit, cut, lengthen, empty, rewrite, take_from_the_other_day),
    *(become_a_folder, Path.unlink),
]


def named(lake: Lake) -> set[Path]:
    return {problem.path for problem in verify(lake, catalog_of(lake)).problems}


@pytest.fixture
def lake(untouched: Path, tmp_path: Path) -> Lake:
    """A copy of it, to be damaged; its catalog is that of the original."""
    shutil.copytree(untouched, tmp_path / "home", symlinks=True)
    return Lake(tmp_path / "home" / "lake")


def test_nothing_is_named_where_nothing_is_damaged(lake: Lake, figures: Figures) -> None:
    figures("untouched lake", damages=0, named=len(named(lake)))
    verified = verify(lake, catalog_of(lake))
    assert verified.problems == ()
    assert (verified.days, verified.files) == (2, 2 * len(TABLES))


@pytest.mark.parametrize("damage", TO_FILES, ids=lambda damage: str(damage.__name__))
@pytest.mark.parametrize("table", TABLES)
def test_a_file_that_was_touched_is_named(
    lake: Lake, figures: Figures, table: str, damage: Callable[[Path], None]
) -> None:
    path = version(lake) / f"{table}.parquet"
    damage(path)
    found = named(lake)
    figures("damaged files", damages=1, named=int(found == {path}))
    assert found == {path}


def load_later(lake: Lake, server: EmulatorServer, worker: Worker) -> None:
    """Load the day again, as verify says that it is to be mended."""
    assert worker.load(server, lake.root, [DAY], now=server.world.clock() + 60) == "done"


@pytest.mark.parametrize("damage", TO_FILES, ids=lambda damage: str(damage.__name__))
def test_a_day_with_files_that_were_touched_is_mended_by_loading_it_again(
    lake: Lake, server: EmulatorServer, worker: Worker, damage: Callable[[Path], None]
) -> None:
    for table in TABLES:
        damage(version(lake) / f"{table}.parquet")
    load_later(lake, server, worker)
    assert named(lake) == set()
    assert exact(lake, server.world, [DAY, OTHER])


def a_link_removed(lake: Lake) -> Path:
    lake.path("usage_1h", DAY).unlink()
    return lake.path("usage_1h", DAY)


def a_link_to_another_day(lake: Lake) -> Path:
    place = lake.path("usage_1h", DAY)
    place.unlink()
    place.symlink_to(lake.path("usage_1h", OTHER).readlink())
    return place


def a_link_that_became_a_file(lake: Lake) -> Path:
    place = lake.path("usage_1h", DAY)
    content = place.read_bytes()
    place.unlink()
    place.write_bytes(content)
    return place


def a_day_unlinked(lake: Lake) -> Path:
    lake.link(DAY).unlink()
    return lake.link(DAY)


def a_day_that_leads_nowhere(lake: Lake) -> Path:
    shutil.rmtree(lake.versions(DAY))
    return lake.link(DAY)


def a_day_whose_files_are_all_gone(lake: Lake) -> Path:
    shutil.rmtree(lake.versions(DAY))
    lake.link(DAY).unlink()
    return lake.link(DAY)


def a_record_removed(lake: Lake) -> Path:
    path = version(lake) / "record.json"
    path.unlink()
    return path


def a_record_with_other_sums(lake: Lake) -> Path:
    path = version(lake) / "record.json"
    facts = json.loads(path.read_text())
    facts["files"]["usage_1d"]["sums"]["num_operations"] += 1
    path.write_text(json.dumps(facts))
    return path


def a_record_that_forgets_a_file(lake: Lake) -> Path:
    path = version(lake) / "record.json"
    facts = json.loads(path.read_text())
    del facts["files"]["usage_1d"]
    path.write_text(json.dumps(facts))
    return path


def a_file_of_ones_own(lake: Lake) -> Path:
    path = version(lake) / "notes.parquet"
    path.write_bytes(b"")
    return path


def a_second_file_of_a_table(lake: Lake) -> Path:
    """Readers of the folder would count its rows twice."""
    path = lake.path("usage_1d", DAY).with_name("copy.parquet")
    shutil.copyfile(lake.path("usage_1d", DAY), path)
    return path


def a_catalog_removed(lake: Lake) -> Path:
    catalog_of(lake).unlink()
    return catalog_of(lake)


def a_catalog_that_is_none(lake: Lake) -> Path:
    catalog_of(lake).write_bytes(b"not a database")
    return catalog_of(lake)


@pytest.mark.parametrize(
    "damage",
    [
        *(a_link_removed, a_link_to_another_day, a_link_that_became_a_file, a_day_unlinked),
        *(a_day_that_leads_nowhere, a_day_whose_files_are_all_gone, a_record_removed),
        *(a_record_with_other_sums, a_record_that_forgets_a_file, a_file_of_ones_own),
        *(a_second_file_of_a_table, a_catalog_removed, a_catalog_that_is_none),
    ],
    ids=lambda damage: str(damage.__name__),
)
def test_whatever_else_was_touched_is_named(
    lake: Lake,
    server: EmulatorServer,
    worker: Worker,
    figures: Figures,
    damage: Callable[[Lake], Path],
) -> None:
    path = damage(lake)
    found = named(lake)
    figures("damaged lakes", damages=1, named=int(found == {path}))
    assert found == {path}
    load_later(lake, server, worker)
    if damage is a_second_file_of_a_table:  # not ours to remove
        path.unlink()
    assert named(lake) == set()
    assert exact(lake, server.world, [DAY, OTHER])
