"""The cheap test of a version's files: what it finds, and what only reading all of them finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake.damage import damaged
from pipeline.lake.store import MANIFEST, Lake
from tests.conversations.staged import publish
from tests.lake.served import DAY, WINDOW, write_rows

NAME = "usage_1h"


@pytest.fixture
def version(lake: Lake) -> Path:
    publish(lake)
    found = lake.version(DAY)
    assert found is not None
    return found


def remove(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble_footer(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(b"x" * size)


def add_to(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def give_other_columns(path: Path) -> None:
    path.unlink()
    write_rows("conversations", path, [], WINDOW)


def give_another_number_of_rows(path: Path) -> None:
    """Of one byte of the footer: its size and its columns stay what they were."""
    content, schema = path.read_bytes(), pq.read_schema(path)
    for place in range(len(content) - 9, 0, -1):
        changed = content[:place] + bytes([content[place] ^ 6]) + content[place + 1 :]
        with suppress(pa.ArrowException, OSError):
            footer = pq.read_metadata(pa.BufferReader(changed))
            if footer.num_rows == 2 and footer.schema.to_arrow_schema() == schema:
                path.write_bytes(changed)
                return
    raise AssertionError("no byte of the footer is the number of rows")


def change_a_byte_of_a_row(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[12] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove, "removed, with 1 row"),
        (give_another_number_of_rows, "changed: "),
        (cut_short, "cut short: "),
        (empty, "cut short: 0 of "),
        (garble_footer, ("can't be read: ", "changed: ")),
        (add_to, "changed: "),
        (make_folder, ("cut short: ", "can't be read: ", "changed: ")),
        (give_other_columns, ("cut short: ", "changed: ")),
    ],
)
def test_the_cheap_test_finds_a_file_that_is_not_what_was_published(
    version: Path, damage: Callable[[Path], None], said: str | tuple[str, ...], thorough: bool
) -> None:
    damage(version / f"{NAME}.parquet")
    found = damaged(version, thorough=thorough)
    assert list(found) == [NAME]
    assert found[NAME].startswith(said)
    assert "\n" not in found[NAME]


def test_whole_files_are_not_damaged(version: Path) -> None:
    assert damaged(version) == {}
    assert damaged(version, thorough=True) == {}


def test_the_thorough_test_finds_changed_bytes(version: Path) -> None:
    change_a_byte_of_a_row(version / f"{NAME}.parquet")
    assert damaged(version) == {}
    found = damaged(version, thorough=True)
    assert found == {NAME: "changed: its bytes are not those that were published"}


@pytest.mark.parametrize("thorough", [False, True])
def test_without_its_record_each_file_is_tested_by_itself(version: Path, thorough: bool) -> None:
    (version / MANIFEST).write_text("{", encoding="utf-8")
    assert damaged(version, thorough=thorough) == {}
    cut_short(version / f"{NAME}.parquet")
    assert list(damaged(version, thorough=thorough)) == [NAME]


def test_a_version_whose_folder_is_gone_has_lost_every_table(version: Path) -> None:
    shutil.rmtree(version)
    assert set(damaged(version).values()) == {"removed, with the whole day"}
