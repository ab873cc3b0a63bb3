"""Numbers of users and API keys: one each, and always the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.export import keys

IDS = st.sets(st.text())


def series(ids: Iterable[str]) -> pl.Series:
    return pl.Series(list(ids), dtype=pl.String)


def numbered(ids: Iterable[str], numbers: int = 10**15 - 1) -> dict[str, int]:
    in_order = series(ids).sort()
    return dict(zip(in_order, keys.numbered(in_order, numbers), strict=True))


def named(ids: Iterable[str], names: Mapping[str, str], nobody: str) -> dict[str, str]:
    in_order = series(ids).sort()
    return dict(zip(in_order, keys.named(in_order, names, nobody), strict=True))


def members(ids: Iterable[str], names: Mapping[str, str], nobody: str) -> list[dict[str, object]]:
    return keys.members(series(ids), names, nobody).to_dicts()


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
    rows = members(["a", "b"], {"a": "Ada"}, "(none)")
    assert {(row["id"], row["name"]) for row in rows} == {
        (None, "(none)"),
        ("a", "Ada"),
        ("b", "b"),
    }
    assert [row["id"] for row in rows if row["number"] == 0] == [None]


NONE = "(no user)"
ODD = st.sampled_from(
    [
        "",
        " ",
        '" "',
        NONE,
        f"{NONE} (id)",
        f"{NONE} (id) 2",
        "Ada",
        "Ada (id)",
        "Ada (Ada)",
        "a",
        "b",
    ]
)
PEOPLE = st.sets(ODD | st.text(max_size=4), max_size=12)
GIVEN = st.dictionaries(ODD, ODD.filter(str.strip), max_size=8)


@given(PEOPLE, GIVEN)
def test_no_two_have_the_same_name_and_none_is_called_as_nobody(
    ids: set[str], names: dict[str, str]
) -> None:
    rows = members(ids, names, NONE)
    called = [row["name"] for row in rows]
    assert len(set(called)) == len(called) == len(ids) + 1
    assert [row["id"] for row in rows if row["name"] == NONE] == [None]
    assert members(sorted(ids, reverse=True), names, NONE) == rows


@given(st.sets(st.text(min_size=1).filter(str.strip)))
def test_whose_name_is_nobody_elses_is_called_by_it(ids: set[str]) -> None:
    alone = ids - {NONE}
    assert named(alone, {}, NONE) == {id_: id_ for id_ in alone}


@pytest.mark.parametrize(
    ("ids", "names", "expected"),
    [
        ([NONE, "ada"], {}, {NONE: f"{NONE} (id)", "ada": "ada"}),
        (["u1", "u2"], {"u1": "Ada", "u2": "Ada"}, {"u1": "Ada (u1)", "u2": "Ada (u2)"}),
        (["Ada", "u1"], {"u1": "Ada"}, {"Ada": "Ada (id)", "u1": "Ada (u1)"}),
        (["u1"], {"u1": NONE}, {"u1": f"{NONE} (u1)"}),
        (
            [NONE, f"{NONE} (id)"],
            {},
            {NONE: f"{NONE} (id) 2", f"{NONE} (id)": f"{NONE} (id)"},
        ),
    ],
)
def test_what_several_would_be_called_has_the_id_beside_it(
    ids: list[str], names: dict[str, str], expected: dict[str, str]
) -> None:
    assert named(ids, names, NONE) == expected
