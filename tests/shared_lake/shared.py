"""What the tests of the shared lake share: homes with days, and what a version holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from pyarrow import fs
from pyiceberg.catalog.sql import SqlCatalog

from pipeline.emulator import EmulatorServer, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.lake.verification import Problem, verify
from pipeline.shared_lake import Place
from pipeline.timeline import day_window
from tests.forget.people import named_in
from tests.servers import S3
from tests.torture.scenes import days, world
from tests.truth import load

DAYS = days(3)


def small_world(number: int = 3, seed: int = 0) -> World:
    """A few days of events."""
    return world(number, seed=seed, per_day=20)


def loaded(folder: Path, of: World, asked: Iterable[date] = DAYS) -> Lake:
    """A home of its own with these days."""
    lake = Lake(folder / "lake")
    with EmulatorServer(of) as server:
        load(server, lake, list(asked))
    return lake


def reload(lake: Lake, of: World, asked: Iterable[date]) -> None:
    """Load days of a home again."""
    with EmulatorServer(of) as server:
        load(server, lake, list(asked))


def content(lake: Lake, day: date) -> dict[str, bytes]:
    """Every file of a day's version, byte for byte, its manifest too."""
    version = lake.version(day)
    assert version is not None
    return {path.name: path.read_bytes() for path in version.iterdir()}


def problems(lake: Lake) -> tuple[Problem, ...]:
    """What `mka1-usage verify` says of a home."""
    catalog = lake.root.parent / "usage.duckdb"
    build_catalog(lake, catalog)
    return verify(lake, catalog).problems


def catalog_of(place: Place) -> SqlCatalog:
    """The catalog as any reader opens it: by pyiceberg alone."""
    names = {
        "s3.endpoint": "AWS_ENDPOINT_URL",
        "s3.access-key-id": "AWS_ACCESS_KEY_ID",
        "s3.secret-access-key": "AWS_SECRET_ACCESS_KEY",
        "s3.region": "AWS_REGION",
    }
    found = {name: os.environ[of] for name, of in names.items() if of in os.environ}
    return SqlCatalog("mka1_usage", uri=place.catalog, **found)


def restated(of: World, day: date, operations: int = 7) -> World:
    """A world whose API counts more operations of the first user of a day from now on."""
    window = day_window(day)
    groups = ("user_id", "api_key_id")
    buckets = of.usage(window.start, window.end, "1m", groups)
    bucket = next(one for one in buckets if one["results"])
    result = bucket["results"][0]
    of.restate(bucket["start_time"], result["user_id"], result["api_key_id"], operations=operations)
    return of


def age(folder: Path, seconds: float) -> None:
    """Let all files have been written so long ago."""
    for path in folder.rglob("*"):
        if path.is_file():
            found = path.stat()
            os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


def objects_naming(place: Place, copy: Path, word: str) -> list[str]:
    """The files of the warehouse that hold a word."""
    if "://" not in place.warehouse:
        return named_in(Path(place.warehouse), word)
    files = S3(os.environ["AWS_ENDPOINT_URL"]).files()
    fs.copy_files(place.warehouse.removeprefix("s3://"), str(copy), source_filesystem=files)
    found = named_in(copy, word)
    shutil.rmtree(copy)
    return found
