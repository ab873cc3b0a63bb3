"""What a sync has seen is kept whole, in few files, and nothing that can't be placed gets in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.conversations import row_buffer as module
from pipeline.conversations.row_buffer import KINDS, SEEN, Kind, RowBuffer
from pipeline.lake.schemas import DATASETS
from tests.conversations.seen import NOON, Conversation, Item, Response, Sight, gather


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("conversations", {"seen_at"}),
        ("items", {"seen_at", "body"}),
        ("responses", {"seen_at"}),
    ],
)
def test_a_sight_has_the_datasets_columns_and_when_it_was_seen(kind: Kind, own: set[str]) -> None:
    contract = DATASETS[kind].schema
    shared = [name for name in SEEN[kind].names if name in contract.names]
    assert set(SEEN[kind].names) - set(contract.names) == own
    assert [SEEN[kind].field(name) for name in shared] == [contract.field(n) for n in shared]
    assert set(contract.names) - set(shared) <= {
        "first_seen_at",
        "last_seen_at",
        "added_at",
        "added_at_source",
    }


def test_nothing_seen_is_an_empty_table(tmp_path: Path) -> None:
    for kind in KINDS:
        assert RowBuffer(tmp_path).table(kind) == SEEN[kind].empty_table()
        assert RowBuffer(tmp_path).rows(kind) == 0


def test_sights_come_back_in_order_however_they_are_cut_into_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART_ROWS", 3)
    sights = gather(tmp_path, [Item(str(number)) for number in range(10)])
    assert sights.rows("items") == 10
    assert sights.table("items").column("id").to_pylist() == [str(n) for n in range(10)]
    assert len(list(tmp_path.iterdir())) == 4
    sights.add("items", {"id": ["x"], "conversation_id": ["c"], "type": ["t"], "seen_at": [1]})
    assert sights.table("items").num_rows == 11


def test_long_contents_do_not_wait_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", 1_000)
    sights = gather(tmp_path, [Item(str(number), body="x" * 600) for number in range(4)])
    assert len(list(tmp_path.iterdir())) == 2
    assert sights.table("items").num_rows == 4


def test_a_hundred_thousand_small_listings_make_few_files(tmp_path: Path) -> None:
    gather(tmp_path, [Conversation(str(number)) for number in range(300)]).table("conversations")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("seconds", "micros"),
    [
        (NOON, 0),
        (NOON + 0.1, 100_000),
        (NOON + 0.000001, 1),
        (NOON + 0.9999996, 1_000_000),
        (NOON + 86_399.999999, 86_399_999_999),
    ],
)
def test_times_are_kept_to_the_microsecond(tmp_path: Path, seconds: float, micros: int) -> None:
    table = gather(tmp_path, [Conversation("c", created_at=seconds)]).table("conversations")
    assert table.column("created_at").cast(pa.int64()).to_pylist() == [NOON * 1_000_000 + micros]
    assert table.column("seen_at").to_pylist() == [datetime.fromtimestamp(NOON, UTC)]
    assert table.column("deleted_at").to_pylist() == [None]


GOOD: dict[Kind, Sight] = {
    "conversations": Conversation("c"),
    "items": Item("i"),
    "responses": Response("r"),
}


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("conversations", "id"),
        ("conversations", "created_at"),
        ("conversations", "api_key_id"),
        ("conversations", "seen_at"),
        ("items", "id"),
        ("items", "conversation_id"),
        ("items", "type"),
        ("items", "seen_at"),
        ("responses", "id"),
        ("responses", "created_at"),
        ("responses", "api_key_id"),
        ("responses", "status"),
    ],
)
def test_what_cannot_be_placed_is_refused_by_name(tmp_path: Path, kind: Kind, column: str) -> None:
    columns = {name: [value] for name, value in vars(GOOD[kind]).items()}
    RowBuffer(tmp_path).add(kind, columns)
    with pytest.raises(ValueError, match=f"a row of {kind} has no {column}"):
        RowBuffer(tmp_path).add(kind, {**columns, column: [None]})


def test_columns_of_unequal_length_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    sights = RowBuffer(tmp_path)
    with pytest.raises(ValueError, match=r"lengths: \[1, 2\]"):
        sights.add("conversations", {"id": ["a", "b"], "created_at": [1.0]})
    with pytest.raises(ValueError, match=r"unknown: \['key'\]"):
        sights.add("conversations", {"id": ["a"], "key": ["k"]})
    with pytest.raises(pa.ArrowException):
        sights.add("items", {"id": [5], "conversation_id": ["c"], "type": ["t"], "seen_at": [1]})
    assert sights.rows("conversations") == sights.rows("items") == 0
