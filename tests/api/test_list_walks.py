"""Walks over items and responses: what was there all the time is returned once, whatever goes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api import PagingError, Refused
from tests.api.list_model import GrowingList, Unknown

KINDS = ("items", "responses")
UNKNOWN: tuple[Unknown, ...] = (400, 404, 410, 422, "beginning", "empty")


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


class Changes:
    """Between any two requests rows are added, and vanish: the cursor, any, a run, all of them."""

    def __init__(self, there: GrowingList, seed: int, rate: float) -> None:
        self.there, self.dice, self.rate = there, Random(seed), rate
        self.added = self.additions = 0

    def __call__(self, cursor: str | None) -> None:
        if self.dice.random() >= self.rate:
            return
        rows, dice = self.there.rows, self.dice
        match dice.randrange(12):
            case 0 | 1 | 2 | 3 if cursor in rows:
                rows.remove(cursor)
            case 4 | 5 if rows:
                del rows[dice.randrange(len(rows))]
            case 6 if cursor in rows:  # the cursor and those before it
                place = rows.index(cursor)
                del rows[dice.randrange(place + 1) : place + 1]
            case 7 if rows:
                first = dice.randrange(len(rows))
                del rows[first : first + dice.randrange(20)]
            case 8 if dice.random() < 0.2:
                rows.clear()
            case _ if self.added < 60:
                more = dice.randint(1, 5)
                rows += [f"new{self.added + number}" for number in range(more)]
                self.added += more
                self.additions += 1
            case _:
                pass


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    unknown=st.sampled_from(UNKNOWN),
    count=st.integers(0, 120),
    limit=st.sampled_from([1, 2, 3, 7, 20, 100]),
    says_more=st.booleans(),
    known=st.none() | st.integers(0, 119),
    removed=st.booleans(),
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.1, 0.3, 0.6, 1.0]),
)
def test_what_was_there_all_the_time_is_returned_once_in_a_bounded_number_of_requests(
    kind: str,
    unknown: Unknown,
    count: int,
    limit: int,
    says_more: bool,
    known: int | None,
    removed: bool,
    seed: int,
    rate: float,
) -> None:
    """`known` is the row that was read last, which may have been removed since."""
    there = GrowingList(names(count), limit, unknown, says_more)
    there.meddle = changes = Changes(there, seed, rate)
    after = None if known is None else f"n{known}"
    before = names(count)[0 if known is None else known + 1 :]
    if removed and after in there.rows:
        there.rows.remove(after)
    walked = there.walk(kind, after)
    assert len(set(walked.rows)) == len(walked.rows)
    stayed = [name for name in before if name in there.rows]
    assert set(stayed) <= set(walked.rows)
    assert [name for name in walked.order if name in stayed] == stayed
    ever = count + changes.added
    assert there.unknown_asked <= ever + 1, "a row that is gone is no cursor again"
    pages = count // limit + changes.added + 4  # what is added may come one by one
    # Rows that are added right behind an empty page look as if the cursor was gone.
    assert len(there.asked) <= pages * (there.unknown_asked + changes.additions + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("unknown", "requests"),
    [(400, 2), (404, 2), (410, 2), (422, 2), ("beginning", 1), ("empty", 3)],
)
def test_where_the_row_read_last_was_removed_the_list_is_read_from_its_beginning(
    kind: str, unknown: Unknown, requests: int
) -> None:
    there = GrowingList(["a", "c", "d"], unknown=unknown)
    walked = there.walk(kind, after="b")
    assert walked.rows == walked.order == ["a", "c", "d"]
    assert walked.cursor == "d"
    assert walked.whole == (unknown != "beginning"), "nobody is told that it is the beginning"
    assert len(there.asked) == requests


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("run", [1, 2, 30, 150, 300])
def test_cursors_that_are_removed_in_mid_walk_cost_few_requests(
    kind: str, unknown: Unknown, run: int
) -> None:
    """All of the last `run` rows vanish right before the fourth page, of a hundred each."""
    there = GrowingList(names(1_000), unknown=unknown)

    def remove(_: str | None) -> None:
        if len(there.asked) == 4:
            del there.rows[300 - run : 300]

    there.meddle = remove
    walked = there.walk(kind)
    assert walked.rows == names(1_000)
    assert walked.order[-len(there.rows) :] == there.rows
    steps = run.bit_length() * (2 if unknown == "empty" else 1)
    again = run // 100
    assert len(there.asked) <= 10 + steps + again + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", UNKNOWN)
def test_rows_that_were_returned_do_not_look_like_the_end_once_the_walk_has_stepped_back(
    kind: str, unknown: Unknown
) -> None:
    """While the walk looks for a cursor, the newest row is one that it has returned already."""
    there = GrowingList(list("abcdef"), unknown=unknown, says_more=False)

    def change(cursor: str | None) -> None:
        if cursor == "f":
            there.rows = list("abdg")
        elif cursor == "c":
            there.rows = list("abd")

    there.meddle = change
    walked = there.walk(kind)
    assert walked.rows[:6] == list("abcdef")
    assert [name for name in walked.order if name in there.rows] == there.rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [0, 1, 250])
def test_a_walk_goes_on_behind_the_row_read_last(kind: str, more: int) -> None:
    there = GrowingList(names(500 + more))
    walked = there.walk(kind, after="n499")
    assert walked.rows == names(500 + more)[500:]
    assert walked.cursor == f"n{499 + more}"
    assert not walked.whole
    # One page says that there is nothing, and one that the row read last is still the newest.
    assert len(there.asked) == {0: 2, 1: 1, 250: 3}[more]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", UNKNOWN)
def test_a_list_that_was_emptied_has_nothing_and_no_cursor(kind: str, unknown: Unknown) -> None:
    walked = GrowingList([], unknown=unknown).walk(kind, after="b")
    assert (walked.rows, walked.order) == ([], [])
    assert walked.cursor == (None if isinstance(unknown, int) else "b")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("after", [None, "n250"])
def test_a_server_that_knows_no_cursor_is_an_error_in_few_requests(
    kind: str, unknown: Unknown, after: str | None
) -> None:
    class Forgetful(GrowingList):
        def place(self, _: str | None) -> int | None:
            return None

    there = Forgetful(names(500), unknown=unknown)
    with pytest.raises(PagingError, match="which it lists") as error:
        there.walk(kind, after)
    assert not isinstance(unknown, int) or f"{unknown}: unknown cursor" in str(error.value)
    assert len(there.asked) < 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 404, 410, 422, 451])
@pytest.mark.parametrize("after", [None, "n5"])
def test_a_list_that_is_gone_is_a_refusal_also_in_mid_walk(
    kind: str, status: int, after: str | None
) -> None:
    there = GrowingList(names(500))

    def refuse(_: str | None) -> None:
        if len(there.asked) > 2:
            raise Refused("no such list", status)

    there.meddle = refuse
    with pytest.raises(Refused, match="no such list") as error:
        there.walk(kind, after)
    assert error.value.status == status
    assert len(there.asked) < 15


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_serves_a_row_twice_is_an_error(kind: str) -> None:
    with pytest.raises(PagingError, match="twice"):
        GrowingList(["a", "b", "a"]).walk(kind)
