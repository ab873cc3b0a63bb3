"""What a sync has read is remembered; a memory that is lost or damaged is as good as none."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversations.cursors import ListingState, SyncState, TailState, load, save
from pipeline.lake.store import Lake
from tests.lake.served import temporary

LISTING = ListingState("key", "ada", ("c2", "c1"), "r9", ("r10", "r12"), True)
TAIL = TailState("c1", "i9", 10, True)
FILES = ["listings", "tails"]


def remember(lake: Lake) -> None:
    state = SyncState()
    state.put_listing(LISTING)
    state.put_tail(TAIL)
    save(lake, state)


def path_of(lake: Lake, name: str) -> Path:
    return lake.root / ".sync" / f"{name}.parquet"


def test_nothing_is_known_before_the_first_sync(lake: Lake) -> None:
    state = load(lake)
    assert state == SyncState()
    assert state.listings.get(("key", None)) is None
    assert state.tails.get("c") is None
    assert not lake.root.exists()


def test_what_is_saved_is_known_again(lake: Lake) -> None:
    remember(lake)
    state = load(lake)
    assert state.listings.get(("key", "ada")) == LISTING
    assert state.tails.get("c1") == TAIL
    assert state.listings.get(("key", None)) is None
    assert list(state.listings.values()) == [LISTING]
    assert list(state.unreadable()) == ["c1"]


def test_columns_of_an_earlier_version_are_passed_over(lake: Lake) -> None:
    remember(lake)
    path = path_of(lake, "listings")
    table = pq.read_table(path)
    pq.write_table(table.append_column("synced_at", pa.array([1.5])), path)
    assert list(load(lake).listings.values()) == [LISTING]


def test_the_key_owners_own_listing_is_not_that_of_a_user_without_a_name(lake: Lake) -> None:
    state = SyncState()
    for user in (None, "", "None"):
        state.put_listing(ListingState("key", user, (str(user),)))
    save(lake, state)
    for user in (None, "", "None"):
        found = load(lake).listings.get(("key", user))
        assert found is not None
        assert found.order == (str(user),)


def test_the_latest_is_what_counts(lake: Lake) -> None:
    remember(lake)
    state = load(lake)
    state.put_listing(LISTING._replace(order=(), response_cursor=None))
    state.put_tail(TAIL._replace(unreadable=False))
    save(lake, state)
    found = load(lake).listings.get(("key", "ada"))
    assert found is not None
    assert (found.order, found.response_cursor) == ((), None)
    assert list(load(lake).unreadable()) == []
    assert sorted(path.name for path in (lake.root / ".sync").iterdir()) == [
        "listings.parquet",
        "tails.parquet",
    ]


ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
counts = st.integers(0, 2**63 - 1)
listings = st.builds(
    ListingState,
    ids,
    st.none() | ids,
    st.lists(ids, max_size=4).map(tuple),
    st.none() | ids,
    st.lists(ids, max_size=3).map(tuple),
    st.booleans(),
)
tails = st.builds(TailState, ids, st.none() | ids, counts, st.booleans())


@settings(max_examples=30, deadline=None)
@given(read=st.lists(listings, max_size=6), known=st.lists(tails, max_size=6))
def test_any_state_comes_back_as_it_was(read: list[ListingState], known: list[TailState]) -> None:
    state = SyncState()
    for listing in read:
        state.put_listing(listing)
    for tail in known:
        state.put_tail(tail)
    with temporary() as folder:
        lake = Lake(Path(folder))
        save(lake, state)
        assert load(lake) == state


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"id": ["x"]}), path)


def other_version(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({b"mka1_sync": b"0"}), path)


def without_ids(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    column = pa.nulls(table.num_rows, pa.string())
    pq.write_table(table.set_column(0, table.schema.field(0), column), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def scramble(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\xff" * 40 + content[48:])


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damaged", FILES)
@pytest.mark.parametrize(
    "damage", [foreign, other_version, without_ids, cut, scramble, gone, folder]
)
def test_a_file_that_cannot_be_made_out_is_as_good_as_none(
    lake: Lake, damage: object, damaged: str
) -> None:
    assert callable(damage)
    remember(lake)
    damage(path_of(lake, damaged))
    state = load(lake)
    assert (state.listings.get(("key", "ada")) is None) == (damaged == "listings")
    assert (state.tails.get("c1") is None) == (damaged == "tails")


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_disk_that_is_full_leaves_the_old_state(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    remember(lake)
    write, written = pq.write_table, 0

    def fail_later(table: pa.Table, where: Path, **options: object) -> None:
        nonlocal written
        written += 1
        if written == fails_at:
            where.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        write(table, where, **options)

    monkeypatch.setattr(pq, "write_table", fail_later)
    state = load(lake)
    state.put_listing(ListingState("new", None))
    with pytest.raises(OSError, match="No space left"):
        save(lake, state)
    assert list(load(lake).listings.values()) == [LISTING]
    assert load(lake).tails.get("c1") == TAIL
    assert len(list((lake.root / ".sync").iterdir())) == 2


def test_no_reader_of_the_lake_takes_it_for_a_dataset(lake: Lake) -> None:
    remember(lake)
    assert not list(lake.root.glob("*/day=*/*.parquet"))
    with lake.staging():
        assert load(lake).tails.get("c1") == TAIL
