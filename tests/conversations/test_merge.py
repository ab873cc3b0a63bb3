"""Landing: what was seen, in whatever order and however often, is published once and right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.apart import UNDATED
from pipeline.lake import consistency, engine, files
from pipeline.lake.files import DISPUTED
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from tests.bounded import at_once
from tests.conversations.seen import (
    NOON,
    Conversation,
    Item,
    Response,
    Sight,
    days_of,
    exact,
    land_seen,
    landed,
    merged,
)
from tests.ended import publishing_ends
from tests.lake.served import DAY, MIDNIGHT, digests, leftovers, stand, temporary

Connection = duckdb.DuckDBPyConnection
NEXT = DAY + timedelta(days=1)
RECORDS = ("conversations", "responses", "items", "item_contents")
DAY_SECONDS = 86_400


def owner(lake: Lake, dataset: str, name: str) -> tuple[object, object]:
    row = landed(lake, dataset)[name]
    return row["user_id"], row["api_key_id"]


# Conversations


def test_a_conversation_stands_on_the_day_it_was_created(con: Connection, lake: Lake) -> None:
    moments = {
        "first": MIDNIGHT,
        "last": MIDNIGHT + 86_399.999999,
        "after": MIDNIGHT + DAY_SECONDS,
        "epoch": 0.0,
        "far": MIDNIGHT + 3_000 * DAY_SECONDS + 0.5,
    }
    changed = land_seen(con, lake, *(Conversation(n, created_at=at) for n, at in moments.items()))
    assert days_of(lake, "conversations") == {
        "first": DAY,
        "last": DAY,
        "after": NEXT,
        "epoch": date(1970, 1, 1),
        "far": DAY + timedelta(days=3_000),
    }
    assert changed.days["conversations"] == tuple(lake.days("conversations"))
    assert changed.days["responses"] == changed.days["items"] == ()


def test_what_was_in_the_future_gets_its_day_once_that_is_there_beside_what_stands_on_it(
    con: Connection, lake: Lake
) -> None:
    """A clock that is behind makes the future of what happens now."""
    behind, between, right = (MIDNIGHT + DAY_SECONDS + seconds for seconds in (-3_600, 50, 5_000))

    def said(name: str, at: float) -> list[Sight]:
        response = Response(f"r{name}", name, created_at=at)
        return [Conversation(name, created_at=at), response, Item(f"i{name}", name, response.id)]

    land_seen(con, lake, *said("early", MIDNIGHT + DAY_SECONDS + 100), until=behind)
    assert days_of(lake, "conversations")["early"] == UNDATED
    assert landed(lake, "items")["iearly"]["added_at_source"] == "observed"
    land_seen(con, lake, *said("next", MIDNIGHT + DAY_SECONDS + 10), until=between)
    land_seen(con, lake, *said("before", MIDNIGHT), until=right)
    for name in ("conversations", "responses", "items"):
        assert sorted(days_of(lake, name).values()) == [DAY, NEXT, NEXT]
    assert landed(lake, "items")["iearly"]["added_at"] == MIDNIGHT + DAY_SECONDS + 100


def test_a_landed_row_has_every_column_as_seen(con: Connection, lake: Lake) -> None:
    land_seen(
        con,
        lake,
        Conversation("c", NOON + 0.25, "ada", "key", NOON + 9, NOON + 5.5, '{"a":"b"}'),
        Response("r", "c", NOON + 1, None, "key", NOON + 9, "failed", 12),
        Item("i", "c", "r", NOON + 9, "function_call", None, None),
    )
    (conversation,), (response,), (item,) = (
        exact(lake, name) for name in ("conversations", "responses", "items")
    )
    assert {name: conversation[name] for name in ("id", "user_id", "api_key_id", "metadata")} == {
        "id": "c",
        "user_id": "ada",
        "api_key_id": "key",
        "metadata": '{"a":"b"}',
    }
    times = ("created_at", "deleted_at", "first_seen_at", "last_seen_at")
    assert [conversation[name].timestamp() - NOON for name in times] == [0.25, 5.5, 9, 9]
    assert list(response) == DATASETS["responses"].schema.names
    assert (response["status"], response["total_tokens"], response["model"]) == ("failed", 12, None)
    assert item.pop("added_at").timestamp() == NOON + 1
    assert item == {
        "id": "i",
        "conversation_id": "c",
        "response_id": "r",
        "type": "function_call",
        "role": None,
        "added_at_source": "response",
        "content_chars": None,
    }


OWNERS: list[tuple[list[tuple[str | None, str]], tuple[str | None, str | None]]] = [
    ([("ada", "k1")], ("ada", "k1")),
    ([(None, "k1")], (None, "k1")),
    ([("ada", "k1"), (None, "k1")], ("ada", "k1")),
    ([(None, "k1"), ("ada", "k1")], ("ada", "k1")),
    ([("ada", "k1"), ("ada", "k2")], ("ada", None)),
    ([("ada", "k1"), ("bob", "k1")], (None, "k1")),
    ([("ada", "k1"), ("bob", "k1"), ("ada", "k1")], (None, "k1")),
    ([("ada", "k1"), ("bob", "k1"), ("cy", "k1"), (None, "k1")], (None, "k1")),
    ([(None, "k1"), (None, "k2"), ("ada", "k1")], ("ada", None)),
    ([("ada", "k1"), ("bob", "k2"), ("bob", "k2")], (None, None)),
    ([(None, "k1"), (None, "k2"), (None, "k1")], (None, None)),
    ([("", "k1"), (None, "k1")], ("", "k1")),
]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("record", [Conversation, Response])
@pytest.mark.parametrize(("seen", "expected"), OWNERS, ids=str)
def test_whose_a_record_is_follows_from_all_listings_that_ever_showed_it(
    con: Connection,
    lake: Lake,
    record: Callable[..., Conversation | Response],
    seen: list[tuple[str | None, str]],
    expected: tuple[str | None, str | None],
    at_once: bool,
) -> None:
    sights = [record("x", user_id=user, api_key_id=key) for user, key in seen]
    for sync in [sights] if at_once else [[sight] for sight in sights]:
        land_seen(con, lake, *sync)
    dataset = "conversations" if record is Conversation else "responses"
    assert owner(lake, dataset, "x") == expected


def test_a_file_notes_who_is_disputed_and_nothing_where_nobody_is(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Conversation("a", user_id="ada"), Conversation("b", user_id="ada"))
    path = lake.path("conversations", DAY)
    assert files.noted(path, DISPUTED) == []
    land_seen(con, lake, Conversation("b", user_id="bob"))
    assert files.noted(path, DISPUTED) == ["b"]
    land_seen(con, lake, Conversation("c"))
    assert files.noted(path, DISPUTED) == ["b"]
    assert lake.loaded("conversations", DAY) is not None


@pytest.mark.parametrize(
    ("sights", "deleted_at"),
    [
        ([(1, None), (2, NOON)], NOON),
        ([(2, NOON), (1, None)], NOON),
        ([(1, NOON), (2, None)], None),
        ([(1, NOON), (2, NOON)], NOON),
        ([(1, NOON), (1, None)], NOON),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_latest_sight_says_whether_it_is_deleted(
    con: Connection,
    lake: Lake,
    sights: list[tuple[int, int | None]],
    deleted_at: int | None,
    at_once: bool,
) -> None:
    seen = [
        Conversation("c", seen_at=NOON + later, deleted_at=deleted, metadata=f'{{"n":{later}}}')
        for later, deleted in sights
    ]
    for sync in [seen] if at_once else [[sight] for sight in seen]:
        land_seen(con, lake, *sync)
    row = landed(lake, "conversations")["c"]
    assert row["deleted_at"] == deleted_at
    latest = max(later for later, _ in sights)
    assert row["metadata"] == f'{{"n":{latest}}}'
    assert row["first_seen_at"] == NOON + min(later for later, _ in sights)
    assert row["last_seen_at"] == NOON + latest


conversations = st.builds(
    Conversation,
    id=st.sampled_from("abcd"),
    user_id=st.sampled_from([None, None, "ada", "bob"]),
    api_key_id=st.sampled_from(["k1", "k1", "k2"]),
    seen_at=st.integers(NOON, NOON + 3),
    deleted_at=st.sampled_from([None, NOON + 1, NOON + 2]),
    metadata=st.sampled_from([None, '{"a":"1"}', '{"a":"2"}']),
).map(lambda sight: replace(sight, created_at=MIDNIGHT + DAY_SECONDS * (sight.id in "cd")))


@settings(max_examples=10, deadline=None)
@given(seen=st.lists(conversations, min_size=1, max_size=8), cuts=st.sets(st.integers(1, 7)))
def test_conversations_are_the_same_in_any_order_and_over_any_number_of_syncs(
    con: Connection, seen: list[Conversation], cuts: set[int]
) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(seen)), len(seen)]
    with temporary() as once, temporary() as often:
        land_seen(con, Lake(Path(once)), *seen)
        lake = Lake(Path(often))
        for start, end in pairwise(edges):
            land_seen(con, lake, *seen[start:end])
        assert digests(lake) == digests(Lake(Path(once)))
        columns = ("user_id", "api_key_id", "deleted_at", "metadata", "first_seen_at")
        found = {
            name: tuple(row[column] for column in (*columns, "last_seen_at"))
            for name, row in landed(lake, "conversations").items()
        }
        assert found == merged(seen)


def test_the_same_sights_again_leave_every_file_untouched(con: Connection, lake: Lake) -> None:
    seen: list[Sight] = [Conversation("c"), Response("r"), Item("i", response_id="r")]
    land_seen(con, lake, *seen)
    before = stand(lake)
    again = land_seen(con, lake, *seen)
    assert stand(lake) == before
    assert not any(again.days.values())
    assert again.to_observe == ()
    assert leftovers(lake) == []


def test_seen_once_more_is_kept_but_is_nothing_new(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Conversation("c"))
    again = land_seen(con, lake, Conversation("c", seen_at=NOON + 60))
    assert landed(lake, "conversations")["c"]["last_seen_at"] == NOON + 60
    assert not any(again.days.values())


def test_only_the_days_concerned_are_written(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Conversation("a"), Conversation("b", created_at=NOON + DAY_SECONDS))
    before = stand(lake)
    changed = land_seen(con, lake, Conversation("c"))
    assert changed.days["conversations"] == changed.to_observe == (DAY,)
    untouched = f"conversations/day={NEXT}/conversations.parquet"
    assert stand(lake)[untouched] == before[untouched]


# Items


def test_an_item_is_dated_by_its_response_else_by_when_it_was_first_seen(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Response("landed", created_at=NOON - DAY_SECONDS))
    land_seen(
        con,
        lake,
        Response("seen", created_at=NOON + 7),
        Item("a", response_id="landed", seen_at=NOON + 100),
        Item("b", response_id="seen", seen_at=NOON + 100),
        Item("c", response_id="never seen", seen_at=NOON + 100),
        Item("d", seen_at=NOON + DAY_SECONDS),
        Item("d", seen_at=NOON + 50),
    )
    found = landed(lake, "items")
    assert {name: (row["added_at"], row["added_at_source"]) for name, row in found.items()} == {
        "a": (NOON - DAY_SECONDS, "response"),
        "b": (NOON + 7, "response"),
        "c": (NOON + 100, "observed"),
        "d": (NOON + 50, "observed"),
    }
    assert days_of(lake, "items")["a"] == DAY - timedelta(days=1)


def test_what_an_item_said_at_first_stays(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Item("i"))
    before = stand(lake)
    changed = land_seen(con, lake, Item("i", seen_at=NOON + DAY_SECONDS, content_chars=99))
    assert changed.days["items"] == ()
    assert {name: stand(lake)[name] for name in before} == before


def test_an_item_moves_to_its_responses_time_once_that_is_known(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Conversation("c"), Item("i", response_id="r", body="{}"), Item("j"))
    changed = land_seen(con, lake, Response("r", created_at=NOON - 2 * DAY_SECONDS))
    earlier = DAY - timedelta(days=2)
    assert days_of(lake, "items") == {"i": earlier, "j": DAY}
    assert days_of(lake, "item_contents") == {"i": earlier}
    assert landed(lake, "items")["i"]["added_at_source"] == "response"
    assert changed.to_observe == (earlier, DAY)


def test_two_conversations_may_have_an_item_of_the_same_id(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Item("i", "c"))
    land_seen(con, lake, Item("i", "d"), Item("i", "c"))
    assert [row["conversation_id"] for row in exact(lake, "items")] == ["c", "d"]


def test_items_are_never_landed_twice_however_syncs_overlap(con: Connection, lake: Lake) -> None:
    for sync in range(4):
        moment = NOON + sync * DAY_SECONDS
        land_seen(con, lake, *(Item(str(number), seen_at=moment) for number in range(sync + 2)))
    rows = exact(lake, "items")
    assert sorted(str(row["id"]) for row in rows) == ["0", "1", "2", "3", "4"]
    assert [len(list(lake.path("items", day).parent.iterdir())) for day in lake.days("items")] == [
        1
    ] * 4


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_items_and_responses_are_the_same_over_any_number_of_syncs_in_the_order_of_time(
    con: Connection, data: st.DataObject
) -> None:
    moments = st.integers(0, 3)
    responses = data.draw(
        st.lists(
            st.builds(
                Response,
                id=st.sampled_from(["r0", "r1", "r2"]),
                seen_at=moments,
                status=st.sampled_from(["queued", "in_progress", "completed"]),
                total_tokens=st.sampled_from([None, 1, 2]),
                user_id=st.sampled_from([None, "ada"]),
            ),
            max_size=6,
        )
    )
    items = data.draw(
        st.lists(
            st.builds(
                Item,
                id=st.sampled_from("ijk"),
                conversation_id=st.sampled_from("cd"),
                response_id=st.sampled_from([None, "r0", "r1", "other"]),
                seen_at=moments,
            ),
            max_size=6,
        )
    )
    # A response comes before the items it dates, as a sync reads them.
    known = [replace(r, seen_at=-1, created_at=_created(r.id)) for r in map(Response, ["r0", "r1"])]
    dated = [replace(response, created_at=_created(response.id)) for response in responses]
    everything: list[Item | Response] = [*known, *dated, *items]
    by_moment = [[s for s in everything if s.seen_at == moment] for moment in range(-1, 4)]
    shuffled = [data.draw(st.permutations(sync)) for sync in by_moment]
    with temporary() as once, temporary() as often:
        land_seen(con, Lake(Path(once)), *_later(s for sync in by_moment for s in sync))
        for sync in shuffled:
            land_seen(con, Lake(Path(often)), *_later(sync))
        assert digests(Lake(Path(once))) == digests(Lake(Path(often)))


def _created(name: str) -> float:
    return NOON + {"r0": 0, "r1": DAY_SECONDS, "r2": 1}[name]


def _later(sights: Iterable[Item | Response]) -> list[Item | Response]:
    return [replace(s, seen_at=NOON + 2 * DAY_SECONDS + s.seen_at) for s in sights]


# Responses


@pytest.mark.parametrize("tokens", [(None, 1, 2), (2, 1, None), (5, 9, 1)], ids=str)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_latest_sight_of_a_response_counts_whole(
    con: Connection, lake: Lake, tokens: tuple[int | None, ...], at_once: bool
) -> None:
    first, second, last = (
        Response("r", status=status, total_tokens=count, seen_at=NOON + place)
        for place, (status, count) in enumerate(
            zip(("queued", "in_progress", "completed"), tokens, strict=True)
        )
    )
    if not at_once:
        land_seen(con, lake, first, Response("q", status="queued"))
    changed = land_seen(con, lake, last, second, first, Response("q", status="queued"))
    found = landed(lake, "responses")
    assert (found["r"]["status"], found["r"]["total_tokens"]) == ("completed", tokens[2])
    assert found["q"]["status"] == "queued"
    assert changed.days["responses"] == (DAY,)
    assert changed.to_observe == (DAY,)


def test_what_is_landed_gives_way_to_what_is_seen(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Response("r", status="in_progress", total_tokens=9))
    land_seen(con, lake, Response("r", status="cancelled", total_tokens=1, seen_at=NOON + 1))
    row = landed(lake, "responses")["r"]
    assert (row["status"], row["total_tokens"]) == ("cancelled", 1)


# What is to be observed anew


def test_a_conversation_that_changes_hands_takes_its_items_days_with_it(
    con: Connection, lake: Lake
) -> None:
    later = NOON + 5 * DAY_SECONDS
    land_seen(con, lake, Conversation("c"), Item("i"), Item("j", seen_at=later), Item("k", "d"))
    changed = land_seen(con, lake, Conversation("c", api_key_id="other", seen_at=later))
    assert changed.to_observe == (DAY, DAY + timedelta(days=5))
    assert land_seen(con, lake, Conversation("c", seen_at=later + 1)).to_observe == ()


def test_a_conversation_that_turns_out_to_be_a_users_takes_its_items_days_with_it(
    con: Connection, lake: Lake
) -> None:
    own = Conversation("c", user_id=None)
    land_seen(con, lake, own, Item("i", seen_at=NOON + DAY_SECONDS))
    assert land_seen(con, lake, replace(own, user_id="ada")).to_observe == (DAY, NEXT)


def test_a_conversation_that_comes_after_its_items_claims_their_days(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Item("i", seen_at=NOON + DAY_SECONDS))
    assert land_seen(con, lake, Conversation("c")).to_observe == (DAY, NEXT)


# Content


def test_no_content_is_written_unless_a_sight_carries_it(con: Connection, lake: Lake) -> None:
    land_seen(con, lake, Conversation("c"), Item("i"), Response("r"))
    assert lake.days("item_contents") == []
    assert not (lake.root / "item_contents").exists()


def test_content_goes_where_its_item_is_once_and_nowhere_else(con: Connection, lake: Lake) -> None:
    secret = '{"content":"nobody else reads this"}'
    land_seen(
        con,
        lake,
        Response("r", created_at=NOON - DAY_SECONDS),
        Item("i", body=secret, response_id="r"),
        Item("j"),
    )
    land_seen(con, lake, Item("i", body="{}", seen_at=NOON + 1), Item("k", body="{}"))
    assert exact(lake, "item_contents") == [
        {"id": "i", "conversation_id": "c", "body": secret},
        {"id": "k", "conversation_id": "c", "body": "{}"},
    ]
    assert days_of(lake, "item_contents") == {"i": DAY - timedelta(days=1), "k": DAY}
    assert b"nobody else" not in b"".join(path.read_bytes() for path in lake.files("items"))


def test_items_of_one_id_in_two_conversations_keep_their_own_content(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Item("i", "c", body="of c"))
    land_seen(con, lake, Item("i", "d", body="of d"), Item("i", "e", body="of e"))
    found = {row["conversation_id"]: row["body"] for row in exact(lake, "item_contents")}
    assert found == {"c": "of c", "d": "of d", "e": "of e"}
    assert len(exact(lake, "item_contents")) == 3


def test_content_that_is_asked_for_later_joins_the_item_that_is_landed(
    con: Connection, lake: Lake
) -> None:
    land_seen(con, lake, Item("i"))
    land_seen(con, lake, Item("i", body="{}", seen_at=NOON + DAY_SECONDS))
    assert days_of(lake, "item_contents") == {"i": DAY}


# Failures


def everything() -> list[Sight]:
    return [
        Conversation("c"),
        Conversation("d", created_at=NOON + DAY_SECONDS),
        Response("r", created_at=NOON + DAY_SECONDS),
        Item("i", body="{}"),
        Item("j", response_id="r"),
    ]


def moved() -> list[Sight]:
    """The same, once the latter day's conversation and response are told the former day."""
    later = NOON + 2 * DAY_SECONDS
    return [
        Conversation("d", seen_at=later),
        Response("r", seen_at=later),
        Item("k", "d", seen_at=later),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(12))
def test_a_landing_that_ends_at_any_step_has_changed_all_days_or_none(
    con: Connection, lake: Lake, steps: int, tmp_path: Path
) -> None:
    before, after = Lake(tmp_path / "before"), Lake(tmp_path / "after")
    for place in (lake, before, after):
        land_seen(con, place, *everything())
    land_seen(con, after, *moved())
    with suppress(KeyboardInterrupt), publishing_ends(steps):
        land_seen(con, lake, *moved())
    tables = [tuple(exact(it, name) for name in RECORDS) for it in (lake, before, after)]
    assert tables[0] == tables[2 if steps else 1]
    assert not consistency.ids(con, {name: lake.files(name) for name in RECORDS})
    assert leftovers(lake) == []
    land_seen(con, lake, *moved())
    assert not lake.commit.exists()
    assert digests(lake) == digests(after)


def test_two_landings_at_once_lose_nothing(lake: Lake) -> None:
    def one(name: str) -> None:
        with closing(engine.connect(threads=1)) as con:
            land_seen(con, lake, Conversation(name), Item(name, name))

    at_once(partial(one, name) for name in "abcd")
    assert sorted(landed(lake, "conversations")) == sorted(landed(lake, "items")) == list("abcd")


def test_ids_of_any_kind_are_kept_as_they_are(con: Connection, lake: Lake) -> None:
    odd = ["'", '"', "漢字", "a\nb", " ", "\0", "é", "e\u0301", "x" * 5_000]
    land_seen(con, lake, *(Conversation(name) for name in odd), *(Item(name, name) for name in odd))
    land_seen(con, lake, *(Item(name, name, seen_at=NOON + DAY_SECONDS) for name in odd))
    assert set(landed(lake, "conversations")) == set(landed(lake, "items")) == set(odd)
    assert lake.days("items") == [DAY]


def test_nothing_seen_lands_nothing(con: Connection, lake: Lake) -> None:
    assert land_seen(con, lake).to_observe == ()
    assert stand(lake) == {}
