"""The catalog is what was published last, and nothing that clients write into one is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import duckdb
import pytest

from pipeline.lake import catalog, catalog_files
from pipeline.lake.catalog import build, build_catalog, difference
from pipeline.lake.schemas import DATASETS
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake
from pipeline.lake.verification import verify
from tests.bounded import finished, started
from tests.lake.served import plant

NOTES: Final = "CREATE TABLE notes AS SELECT 7 AS n"
IN_PLACE_OF_A_VIEW: Final = (
    "CREATE TABLE mine AS FROM usage_1d; DROP VIEW usage_1d; ALTER TABLE mine RENAME TO usage_1d"
)
KILLED: Final = """
import duckdb, os, sys
con = duckdb.connect(sys.argv[1])
con.execute(sys.argv[2])
os._exit(9)
"""


def killed(path: Path, statements: str) -> None:
    """A client that writes and is killed: what it wrote is in a log beside the file.

    Its files are put back as they stood before it closed them; `really_killed` leaves the same.
    """
    file = path.resolve()
    with closing(duckdb.connect(str(path))) as con:
        con.execute(statements)
        left = {one: one.read_bytes() for one in (file, file.with_name(f"{file.name}.wal"))}
    for one, content in left.items():
        one.write_bytes(content)


def really_killed(path: Path, statements: str) -> None:
    """The same by a process."""
    finished([sys.executable, "-c", KILLED, str(path), statements], check=False)


def ended_well(path: Path, statements: str) -> None:
    """A client that writes and closes the file: what it wrote is in it."""
    with closing(duckdb.connect(str(path))) as con:
        con.execute(statements)


def old_and_killed(path: Path, statements: str) -> None:
    """A client older than DuckDB 1.5, which leaves its log beside the link."""
    folder = path.resolve().parent
    killed(path, statements)
    (folder / f"{path.name}.wal").rename(path.with_name(f"{path.name}.wal"))


def both(path: Path, statements: str) -> None:
    """One after the other: the log needs what is in the file."""
    ended_well(path, statements)
    killed(path, "CREATE TABLE more AS SELECT 8 AS n")


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(duckdb.connect(str(path), read_only=True)) as con:
        rows: list[tuple[object, ...]] = con.execute(query).fetchall()
        return rows


@pytest.fixture(scope="module", autouse=True)
def _each_catalog_is_built_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is in a catalog depends on the files that it shows, which are the same in many tests."""
    folder = tmp_path_factory.mktemp("built")
    built: dict[object, Path] = {}

    def once(snapshot: Snapshot, path: Path, *_: object) -> None:
        shown = [snapshot.coverage(), *(tuple(snapshot.files(name)) for name in DATASETS)]
        key = (tuple(shown), tuple(snapshot.damage))
        if key not in built:
            kept = folder / f"{len(built)}.duckdb"
            build(snapshot, kept)
            built[key] = kept
        shutil.copyfile(built[key], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "build", once)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a lake and a catalog of one day with one operation. Tests move copies of
    it to the place that the catalog names."""
    folder = tmp_path_factory.mktemp("whole")
    lake = Lake(folder / "home" / "lake")
    plant(lake, "usage_1d", [{"num_operations": 1}])
    build_catalog(lake, folder / "home" / "usage.duckdb")
    return (folder / "home").rename(folder / "whole")


@pytest.fixture
def lake(whole: Path) -> Iterator[Lake]:
    """A lake with such a day."""
    home = whole.with_name("home")
    shutil.copytree(whole, home, symlinks=True)
    yield Lake(home / "lake")
    shutil.rmtree(home)


@pytest.fixture
def path(lake: Lake) -> Path:
    """Its catalog."""
    return lake.root.parent / "usage.duckdb"


def rebuilt(lake: Lake, path: Path) -> list[Path]:
    """What the next run sets aside; it publishes two operations."""
    plant(lake, "usage_1d", [{"num_operations": 2}])
    found: list[Path] = []
    build_catalog(lake, path, found.append)
    return found


CLIENTS: Final = [killed, ended_well, old_and_killed, both]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("statements", [NOTES, f"{NOTES}; {IN_PLACE_OF_A_VIEW}"])
def test_what_a_client_wrote_is_set_aside_and_the_next_catalog_is_as_published(
    lake: Lake, path: Path, client: Callable[[Path, str], None], statements: str
) -> None:
    client(path, statements)
    [folder] = rebuilt(lake, path)
    assert ask(path, "SELECT num_operations FROM usage_1d") == [(2,)]
    assert ask(path, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'notes'") == [(0,)]
    assert difference(lake, path) is None
    assert ask(folder / path.name, "SELECT n FROM notes") == [(7,)]
    assert folder.parent == path.parent
    assert folder.name.startswith("usage.duckdb.set-aside-")
    assert rebuilt(lake, path) == []
    assert ask(folder / path.name, "SELECT n FROM notes") == [(7,)]


@pytest.mark.parametrize("client", [*CLIENTS, really_killed])
def test_verify_names_it_until_the_next_run(
    lake: Lake, path: Path, client: Callable[[Path, str], None]
) -> None:
    assert verify(lake, path).problems == ()
    client(path, NOTES)
    [problem] = verify(lake, path).problems
    assert problem.path == path
    assert "another program" in problem.what
    assert "any run builds it anew" in problem.what
    rebuilt(lake, path)
    assert verify(lake, path).problems == ()


def test_a_catalog_that_was_only_read_is_replaced_without_a_word(lake: Lake, path: Path) -> None:
    with closing(duckdb.connect(str(path))) as con:
        assert con.execute("SELECT num_operations FROM usage_1d").fetchall() == [(1,)]
    assert difference(lake, path) is None
    assert rebuilt(lake, path) == []


def age(folder: Path) -> None:
    long_ago = time.time() - 3_600
    os.utime(folder, (long_ago, long_ago))


def test_catalogs_that_were_replaced_are_removed_once_nobody_looks_them_up(
    lake: Lake, path: Path
) -> None:
    first = path.resolve().parent
    rebuilt(lake, path)
    second = path.resolve().parent
    rebuilt(lake, path)
    assert first.is_dir()
    age(second)
    rebuilt(lake, path)
    assert not first.exists()
    assert second.is_dir()


WRITER: Final = """
import duckdb, os, sys
con = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
con.execute(sys.argv[2])
os._exit(9)
"""


def test_a_client_that_writes_after_the_run_changes_the_old_catalog_and_loses_nothing(
    lake: Lake, path: Path
) -> None:
    first = path.resolve().parent
    command = [sys.executable, "-c", WRITER, str(path), NOTES]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "open\n"
        assert rebuilt(lake, path) == []
        age(path.resolve().parent)
        assert rebuilt(lake, path) == []
        assert first.is_dir()  # for as long as somebody may write to it
        client.communicate("\n", timeout=60)
    assert difference(lake, path) is None
    assert ask(path, "SELECT num_operations FROM usage_1d") == [(2,)]
    [folder] = rebuilt(lake, path)
    assert ask(folder / path.name, "SELECT n FROM notes") == [(7,)]


def as_a_file(path: Path) -> None:
    """As a copy without links has it."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def test_a_copied_catalog_without_its_link_is_replaced_without_a_word(
    lake: Lake, path: Path
) -> None:
    as_a_file(path)
    assert difference(lake, path) is None
    assert rebuilt(lake, path) == []
    assert path.is_symlink()


def test_a_file_that_no_run_published_is_set_aside(lake: Lake, path: Path) -> None:
    as_a_file(path)
    shutil.rmtree(lake.root / ".catalogs")
    assert difference(lake, path) == "another program has changed it"
    [folder] = rebuilt(lake, path)
    assert ask(folder / path.name, "SELECT num_operations FROM usage_1d") == [(1,)]
    assert path.is_symlink()


@pytest.mark.parametrize("client", [killed, ended_well, both])
def test_what_was_written_to_such_a_catalog_is_set_aside_too(
    lake: Lake, path: Path, client: Callable[[Path, str], None]
) -> None:
    as_a_file(path)
    shutil.rmtree(lake.root / ".catalogs")
    client(path, NOTES)
    assert difference(lake, path) is not None
    [folder] = rebuilt(lake, path)
    assert ask(folder / path.name, "SELECT n FROM notes") == [(7,)]
    assert ask(path, "SELECT num_operations FROM usage_1d") == [(2,)]
    assert difference(lake, path) is None


def test_a_log_beside_no_catalog_is_kept_and_not_read(lake: Lake, path: Path) -> None:
    killed(path, NOTES)
    log = path.resolve().with_name(f"{path.name}.wal")
    log.rename(path.with_name(log.name))
    path.unlink()
    [folder] = rebuilt(lake, path)
    assert [file.name for file in folder.iterdir()] == [log.name]
    assert difference(lake, path) is None


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("linked", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", range(1, 12))
def test_a_build_that_is_killed_anywhere_is_made_good_by_the_next(
    lake: Lake,
    path: Path,
    client: Callable[[Path, str], None],
    linked: bool,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not linked:
        if client is old_and_killed:
            pytest.skip("without a link, a client's log has one place")
        as_a_file(path)
    client(path, NOTES)
    plant(lake, "usage_1d", [{"num_operations": 2}])
    steps = 0

    def counted(work: Callable[..., object]) -> Callable[..., object]:
        def one(*args: object, **more: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise KeyboardInterrupt
            return work(*args, **more)

        return one

    kept: list[Path] = []
    with monkeypatch.context() as patch:
        for module, name in (
            (Path, "replace"),
            (Path, "rename"),
            (Path, "symlink_to"),
            (Path, "write_text"),
            (os, "link"),
            (shutil, "move"),
            (shutil, "copy2"),
            (catalog_files, "private_folder"),
        ):
            patch.setattr(module, name, counted(getattr(module, name)))
        try:
            build_catalog(lake, path, kept.append)
        except KeyboardInterrupt:
            assert ask(path, "SELECT 1") == [(1,)]
    build_catalog(lake, path, kept.append)
    assert ask(path, "SELECT num_operations FROM usage_1d") == [(2,)]
    assert difference(lake, path) is None
    found = [ask(folder / path.name, "SELECT n FROM notes") for folder in kept]
    assert [(7,)] in found
