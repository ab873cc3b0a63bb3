"""How a report says numbers, changes, days and ids."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.formatting import (
    change,
    money,
    name_of,
    names_of,
    rounded,
    share,
    span,
    stretches,
)


@pytest.mark.parametrize(
    ("now", "before", "sign", "words"),
    [
        (112, 100, "▲ 12 %", "12 % more"),
        (97, 100, "▼ 3 %", "3 % less"),
        (1_000_001, 1_000_000, "▲ < 0.1 %", "< 0.1 % more"),
        (Decimal("0.3"), Decimal("0.2"), "▲ 50 %", "50 % more"),
        (2_538, 1_000, "▲ 154 %", "154 % more"),
        (100, 100, "= as before", "the same"),
        (0, 0, "= as before", "the same"),
        (5, 0, "▲ from 0", "up from none"),
        (0, 5, "▼ 100 %", "100 % less"),
        (5_000, 4, "▲ 1,250×", "1,250 times as much"),
    ],
)
def test_a_change_has_a_sign_and_words(
    now: int | Decimal, before: int | Decimal, sign: str, words: str
) -> None:
    found = change(now, before)
    assert found is not None
    assert (found.sign, found.words) == (sign, words)


@pytest.mark.parametrize(("now", "before"), [(None, 1), (1, None), (None, None)])
def test_there_is_no_change_from_or_to_what_is_unknown(now: int | None, before: int | None) -> None:
    assert change(now, before) is None


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (1, 3, "33 %"),
        (1, 20, "5 %"),
        (1, 30, "3.3 %"),
        (1, 10_000, "< 0.1 %"),
        (9_999, 10_000, "> 99.9 %"),
        (995, 1_000, "99.5 %"),
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (None, 7, "–"),
        (0, 0, "–"),
    ],
)
def test_a_share_never_rounds_to_none_or_all(part: int | None, whole: int, words: str) -> None:
    assert share(part, whole) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "0.00 USD"),
        ("0.000000000000000", "0.00 USD"),
        ("1234.5", "1,234.50 USD"),
        ("12.346", "12.35 USD"),
        ("0.5", "0.50 USD"),
        ("0.12345", "0.123 USD"),
        ("0.0000000012345", "0.00000000123 USD"),
        ("0.9999", "1.00 USD"),
        ("12345678901234567890123.455000000000001", "12,345,678,901,234,567,890,123.46 USD"),
    ],
)
def test_an_amount_has_two_decimals_and_more_where_it_is_small(amount: str, words: str) -> None:
    assert money(Decimal(amount), "usd") == words


def test_an_unknown_amount_is_no_amount() -> None:
    assert money(None, "usd") == "–"


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (0.25, "0.2"), (7.0, "7"), (1_234.5, "1,234"), (None, "–")]
)
def test_an_average_is_rounded(value: float | None, words: str) -> None:
    assert rounded(value) == words


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("2024-01-09", "2024-01-09", "9 January 2024"),
        ("2024-01-01", "2024-01-28", "1 to 28 January 2024"),
        ("2024-01-31", "2024-02-01", "31 January to 1 February 2024"),
        ("2023-12-31", "2024-01-01", "31 December 2023 to 1 January 2024"),
    ],
)
def test_a_span_says_nothing_twice(first: str, last: str, words: str) -> None:
    assert span(date.fromisoformat(first), date.fromisoformat(last)) == words


def test_many_stretches_are_counted() -> None:
    days = [date(2024, 1, day) for day in (1, 3, 5, 7, 9, 10)]
    assert stretches(days[-2:]) == "9 to 10 January 2024"
    assert stretches(days) == (
        "1 earlier, 3 January 2024, 5 January 2024, 7 January 2024 and 9 to 10 January 2024"
    )


@given(st.text(min_size=1), st.integers(8, 200))
def test_a_name_is_printable_and_no_longer_than_it_may_be(id_: str, most: int) -> None:
    shown = name_of(id_, "user", most)
    assert 0 < len(shown) <= max(most, len("(blank user)"))
    assert all(char.isprintable() or char in "\u200c\u200d" for char in shown)
    if id_.isprintable() and id_.strip() and len(id_) <= most and not id_.strip().startswith("("):
        assert shown == id_


def test_no_id_is_a_group_with_a_name() -> None:
    assert name_of(None, "user", 10) == "(no user)"
    assert name_of(" \n", "key", 20) == "(blank key)"


@pytest.mark.parametrize("id_", ["(no user)", " (no user)", "(blank user)"])
def test_an_id_that_reads_like_no_id_is_not_taken_for_none(id_: str) -> None:
    assert name_of(id_, "user", 40).startswith('"')
    assert len({name_of(it, "user", 40) for it in (id_, None, "")}) == 3


ODD = st.sampled_from(["(no user)", '"(no user)"', "", " ", "\u200b", "\\u200b", "x" * 99 + "y"])


@given(st.lists(st.none() | ODD | st.text("ab", max_size=40), max_size=20, unique=True))
def test_no_two_of_a_list_have_the_same_label(ids: list[str | None]) -> None:
    labels = names_of(ids, "user", 20)
    assert len(set(labels)) == len(labels) == len(ids)
    assert all(len(label) <= 20 for label in labels)
