"""Publication: a day is replaced whole or not at all, and left alone where it is the same."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake.files import ContractError
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from pipeline.timeline import Window
from tests.bounded import at_once, join
from tests.conversations.staged import NAMES, publish, publish_staged, stage
from tests.lake.served import (
    DAY,
    MIDNIGHT,
    Row,
    leftovers,
    plant,
    raw_row,
    rows_of,
    stand,
    write_rows,
)


def test_a_published_day_is_where_it_belongs(lake: Lake) -> None:
    assert publish(lake) == NAMES
    assert sorted(stand(lake)) == sorted(f"{name}/day={DAY}/{name}.parquet" for name in NAMES)
    assert leftovers(lake) == []


def test_a_day_is_replaced_whole(lake: Lake) -> None:
    publish(lake, operations=1)
    assert publish(lake, operations=2) == NAMES
    for name in NAMES:
        assert [row["num_operations"] for row in rows_of(lake.path(name, DAY))] == [2]


def test_the_same_day_again_leaves_every_file_untouched_whenever_it_was_fetched(
    lake: Lake,
) -> None:
    publish(lake, fetched_at=MIDNIGHT)
    before = stand(lake)
    assert publish(lake, fetched_at=MIDNIGHT + 86_400) == []
    assert stand(lake) == before


def test_a_day_that_covers_more_is_replaced_though_its_rows_are_the_same(lake: Lake) -> None:
    with lake.staging() as folder:
        publish_staged(lake, stage(folder, window=Window(MIDNIGHT, MIDNIGHT + 3_600)))
    assert publish(lake) == NAMES
    loaded = lake.loaded("raw_usage", DAY)
    assert loaded is not None
    assert loaded.complete(DAY)


@pytest.mark.parametrize(
    "change",
    [
        {"num_operations": 2},
        {"num_operations": None},
        {"user_id": ""},
        {"extra": "{}"},
        {"start_time": MIDNIGHT + 60},
    ],
    ids=str,
)
def test_raw_usage_is_replaced_when_anything_but_the_time_of_fetching_differs(
    lake: Lake, change: Row
) -> None:
    plant(lake, "raw_usage", [raw_row()])
    with lake.staging() as folder:
        path = write_rows("raw_usage", folder / "raw_usage.parquet", [raw_row(change)])
        assert publish_staged(lake, {"raw_usage": path}) == ["raw_usage"]


@pytest.mark.parametrize("rows", [0, 2])
def test_raw_usage_is_replaced_when_it_has_more_or_fewer_rows(lake: Lake, rows: int) -> None:
    plant(lake, "raw_usage", [raw_row()])
    with lake.staging() as folder:
        path = write_rows("raw_usage", folder / "raw_usage.parquet", [raw_row()] * rows)
        assert publish_staged(lake, {"raw_usage": path}) == ["raw_usage"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def scramble(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, scramble, empty])
def test_a_published_file_that_is_damaged_is_healed_by_the_next_load(
    lake: Lake, damage: Callable[[Path], None]
) -> None:
    publish(lake)
    for name in NAMES:
        damage(lake.path(name, DAY))
    assert publish(lake) == NAMES
    for name in NAMES:
        assert len(rows_of(lake.path(name, DAY))) == 1


def swap_columns(schema: pa.Schema) -> pa.Schema:
    fields = list(schema)
    return pa.schema([fields[1], fields[0], *fields[2:]])


def rename_column(schema: pa.Schema) -> pa.Schema:
    return schema.set(2, pa.field("user", pa.string()))


def retype_count(schema: pa.Schema) -> pa.Schema:
    return schema.set(4, pa.field("num_conversations_created", pa.float64()))


def retype_time(schema: pa.Schema) -> pa.Schema:
    return schema.set(0, pa.field("start_time", pa.timestamp("ns", tz="UTC")))


def drop_time_zone(schema: pa.Schema) -> pa.Schema:
    return schema.set(0, pa.field("start_time", pa.timestamp("us")))


def add_column(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field("day", pa.string()))


def drop_column(schema: pa.Schema) -> pa.Schema:
    return schema.remove(6)


@pytest.mark.parametrize("bad", NAMES)
@pytest.mark.parametrize(
    "breach",
    [
        swap_columns,
        rename_column,
        retype_count,
        retype_time,
        drop_time_zone,
        add_column,
        drop_column,
    ],
)
def test_one_file_that_breaks_the_contract_keeps_the_whole_day_from_being_published(
    lake: Lake, bad: str, breach: Callable[[pa.Schema], pa.Schema]
) -> None:
    publish(lake)
    before = stand(lake)
    with lake.staging() as folder:
        staged = stage(folder, operations=2)
        pq.write_table(breach(DATASETS[bad].schema).empty_table(), staged[bad])
        with pytest.raises(ContractError, match=f"{bad}: the contract says"):
            publish_staged(lake, staged)
    assert stand(lake) == before


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Let the `call`-th use of a function, counted from 0, end with a full disk."""
    real = getattr(owner, name)
    calls = iter(range(1_000))

    def function(*args: object) -> object:
        if next(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(owner, name, function)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Path, "replace", 0),
        *((Path, "rename", call) for call in range(4)),
        *((os, "fsync", call) for call in range(9)),
    ],
)
@pytest.mark.parametrize("loaded_before", [True, False], ids=["again", "first"])
def test_a_disk_error_while_publishing_leaves_the_day_as_it_was(
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    loaded_before: bool,
    owner: object,
    name: str,
    call: int,
) -> None:
    if loaded_before:
        publish(lake, operations=1)
    before = stand(lake)
    with monkeypatch.context() as patch:
        fail_at(patch, owner, name, call)
        with pytest.raises(OSError, match="No space left"):
            publish(lake, operations=2)
    assert stand(lake) == before
    assert leftovers(lake) == []
    assert publish(lake, operations=2) == NAMES


def refuse_to_flush(monkeypatch: pytest.MonkeyPatch, kind: Callable[[int], bool], no: int) -> None:
    """Let fsync fail with an errno for files of one kind, and do nothing for others."""

    def fsync(handle: int) -> None:
        if kind(os.fstat(handle).st_mode):
            raise OSError(no, os.strerror(no))

    monkeypatch.setattr(os, "fsync", fsync)


CANNOT = ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EISDIR", "EACCES", "EPERM"]


@pytest.mark.parametrize("name", CANNOT)
def test_a_file_system_that_cannot_flush_a_folder_publishes_all_the_same(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    refuse_to_flush(monkeypatch, stat.S_ISDIR, getattr(errno, name))
    assert publish(lake) == NAMES
    assert leftovers(lake) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((stat.S_ISREG, name) for name in [*CANNOT, "EIO", "ENOSPC"]),
        *((stat.S_ISDIR, name) for name in ("EIO", "ENOSPC", "EDQUOT", "EROFS")),
    ],
)
def test_a_flush_that_fails_keeps_the_day_as_it_was(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, kind: Callable[[int], bool], name: str
) -> None:
    publish(lake, operations=1)
    before = stand(lake)
    refuse_to_flush(monkeypatch, kind, getattr(errno, name))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
        publish(lake, operations=2)
    assert stand(lake) == before


def test_a_disk_without_hard_links_publishes_and_goes_back_all_the_same(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    publish(lake, operations=1)
    before = {name: digest for name, (_, digest) in stand(lake).items()}
    with monkeypatch.context() as patch:
        fail_at(patch, Path, "replace", 0)
        with pytest.raises(OSError, match="No space left"):
            publish(lake, operations=2)
    assert {name: digest for name, (_, digest) in stand(lake).items()} == before
    assert publish(lake, operations=2) == NAMES


def test_a_publication_waits_for_the_one_before_so_that_no_day_is_half_of_each(lake: Lake) -> None:
    publish(lake, operations=1)
    before = stand(lake)
    with lake.lock("publish"):
        waiting = threading.Thread(target=publish, args=(lake, 2))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert stand(lake) == before
    join(waiting)
    assert [row["num_operations"] for row in rows_of(lake.path("usage_1d", DAY))] == [2]


def test_two_loads_of_a_day_at_once_leave_the_files_of_one_of_them(lake: Lake) -> None:
    together = threading.Barrier(2)

    def load(operations: int) -> None:
        with lake.staging() as folder:
            staged = stage(folder, operations)
            together.wait(10)
            publish_staged(lake, staged)

    for turn in range(5):
        at_once(partial(load, 2 * turn + number) for number in (1, 2))
        found = {row["num_operations"] for name in NAMES for row in rows_of(lake.path(name, DAY))}
        assert len(found) == 1
