"""What a shared lake lacks is named, with what to do; without one, nothing is said of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pyiceberg.types import StringType

from pipeline.doctor import shared
from pipeline.lake.store import Lake
from pipeline.shared_lake import Place, open_shared_lake
from pipeline.shared_lake.catalogs import file_properties, open_catalog
from tests.doctor.conftest import Look, told
from tests.servers import S3, s3

CHECKS = ("extra", "shared lake", "storage", "its clock")


@pytest.fixture
def place_of_lake(place: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """Where the settings say that a shared lake is: nothing stands there yet."""
    there = Place(f"sqlite:///{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))
    place.setenv("MKA1_USAGE_CATALOG", there.catalog)
    place.setenv("MKA1_USAGE_WAREHOUSE", there.warehouse)
    return there


@pytest.fixture
def bucket(place: pytest.MonkeyPatch, place_of_lake: Place) -> Iterator[S3]:
    with s3() as server:
        for name, value in server.environment.items():
            place.setenv(name, value)
        place.setenv("MKA1_USAGE_WAREHOUSE", server.warehouse)
        yield server


def test_without_a_shared_lake_nothing_is_said_of_it(look: Look) -> None:
    assert look(*CHECKS) == []


def test_all_is_well_in_a_folder_and_nothing_stays_there(
    look: Look, place_of_lake: Place, home: Path
) -> None:
    open_shared_lake(place_of_lake).commit(Lake(home / "lake"))
    before = sorted(Path(place_of_lake.warehouse).rglob("*"))
    found = look(*CHECKS)
    assert [(one.state, one.subject) for one in found] == [
        ("ok", "extra"),
        ("ok", "shared lake"),
        ("ok", "storage"),
    ]
    assert f"pyiceberg {version('pyiceberg')}" in found[0].found
    assert "3 days published, 2024-01-01 to 2024-01-03" in found[1].found
    assert sorted(Path(place_of_lake.warehouse).rglob("*")) == before


def test_storage_is_tried_by_the_credentials_that_are_named_and_never_shown(
    look: Look, bucket: S3
) -> None:
    found = look(*CHECKS, now=time.time)
    assert [(one.state, one.subject) for one in found] == [
        ("ok", "extra"),
        ("warning", "shared lake"),
        ("ok", "storage"),
        ("ok", "its clock"),
    ]
    assert "SQLite is of this machine" in found[1].found
    assert "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in found[2].found
    assert bucket.secret_key not in told(found)
    assert bucket.keys() == []


def test_a_bucket_that_is_not_there_and_a_clock_that_is_off_are_named(
    look: Look, bucket: S3, place: pytest.MonkeyPatch
) -> None:
    place.setenv("MKA1_USAGE_WAREHOUSE", "s3://no-such-bucket/lake")
    found = look("storage", "its clock", now=lambda: time.time() + 3_600)
    assert [one.state for one in found] == ["failed", "failed"]
    assert "make the bucket" in found[0].fix
    assert "s ahead of the storage's" in found[1].found
    assert "timedatectl" in found[1].fix


CATALOGS = [
    ("sqlite:///{tmp}/nowhere/catalog.db", "make the folder of its file"),
    ("postgresql://user:hush-hush@127.0.0.1:{port}/lake", "start Postgres"),
    ("http://id:hush-hush@127.0.0.1:{port}", "see that it is an Iceberg REST catalog"),
]


@pytest.mark.parametrize(("catalog", "todo"), CATALOGS)
def test_a_catalog_that_cannot_be_used_says_what_to_do_without_its_password(
    catalog: str,
    todo: str,
    look: Look,
    place_of_lake: Place,
    place: pytest.MonkeyPatch,
    tmp_path: Path,
    unused_port: int,
) -> None:
    place.setenv("MKA1_USAGE_CATALOG", catalog.format(tmp=tmp_path, port=unused_port))
    found = look("shared lake", "storage")
    assert [one.state for one in found] == ["failed", "skipped"]
    assert "can't be used" in found[0].found
    assert "doctor" not in found[0].found
    assert todo in found[0].fix
    assert "hush" not in told(found)
    assert "\n" not in found[0].found


def test_a_table_that_another_program_has_changed_is_named(
    look: Look, place_of_lake: Place, home: Path
) -> None:
    open_shared_lake(place_of_lake).commit(Lake(home / "lake"))
    catalog = open_catalog(place_of_lake, file_properties(place_of_lake))
    with catalog.load_table(("mka1_usage", "usage_1h")).update_schema() as change:
        change.add_column("theirs", StringType())
    found = look("shared lake")
    assert [(one.state, one.subject) for one in found] == [
        ("ok", "shared lake"),
        ("failed", "tables"),
    ]
    assert found[1].found == "mka1_usage.usage_1h has other columns than the contract: theirs"


@pytest.mark.parametrize(
    ("there", "state", "words"),
    [(None, "failed", "pyiceberg is not installed"), ("0.9.0", "warning", "tested is ==0.12.*")],
)
def test_what_the_extra_lacks_is_named(
    there: str | None,
    state: str,
    words: str,
    look: Look,
    place_of_lake: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told_of(name: str) -> str:
        if name != "pyiceberg":
            return version(name)
        if there is None:
            raise PackageNotFoundError(name)
        return there

    monkeypatch.setattr(shared, "version", told_of)
    found = look("extra")
    assert found[0].state == state
    assert words in found[0].found
    assert "mka1-usage[shared]" in found[0].fix
