"""Numbers of users and API keys: one each, and always the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.exporting.keys import members, numbered

IDS = st.sets(st.text())


@given(IDS, IDS)
def test_an_id_has_the_same_number_whoever_else_there_is(some: set[str], others: set[str]) -> None:
    alone, among = numbered(some), numbered(some | others)
    assert {id_: among[id_] for id_ in some} == alone


@given(st.sets(st.text(), max_size=40))
def test_no_two_ids_have_the_same_number_where_numbers_are_few(ids: set[str]) -> None:
    found = numbered(ids, numbers=50)
    assert set(found) == ids
    assert len(set(found.values())) == len(ids)
    assert all(1 <= number <= 50 for number in found.values())
    assert numbered(sorted(ids, reverse=True), numbers=50) == found


@given(IDS)
def test_a_number_is_exact_where_numbers_are_doubles(ids: set[str]) -> None:
    assert all(0 < number < 10**15 for number in numbered(ids).values())


def test_numbers_are_what_they_were_in_exports_of_before() -> None:
    assert numbered(["", "alice", "Alice"]) == {
        "": 31_598_723_206_424,
        "alice": 668_030_884_257_605,
        "Alice": 37_906_383_465_477,
    }


def test_who_has_no_name_is_called_by_the_id_and_nobody_has_key_0() -> None:
    rows = members("user", ["a", "b"], {"a": "Ada"}, "(none)").to_pylist()
    assert {(row["user_id"], row["user_name"]) for row in rows} == {
        (None, "(none)"),
        ("a", "Ada"),
        ("b", "b"),
    }
    assert [row["user_id"] for row in rows if row["user_key"] == 0] == [None]
