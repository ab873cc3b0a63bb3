"""A pseudonym is the same for the same id and key, and tells nothing of either."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.pseudonyms import Pseudonyms

KEY = "planted-pseudonym-key-0001"
IDS = st.text(st.characters(exclude_categories=["Cs"]))


def of(key: str) -> Pseudonyms:
    return Pseudonyms(SecretStr(key))


@given(user=IDS, other=IDS)
def test_an_id_has_one_pseudonym_and_no_other_id_has_it(user: str, other: str) -> None:
    pseudonyms = of(KEY)
    first = pseudonyms.of(user)
    assert re.fullmatch("p_[0-9a-f]{32}", first)
    assert pseudonyms.of(user) == of(KEY).of(user) == first
    assert (pseudonyms.of(other) == first) == (user == other)


@pytest.mark.parametrize(
    ("user", "expected"),  # as `printf 'mka1-usage user id\0alice' | openssl dgst -hmac` says
    [
        ("alice", "p_dc172698d9f0b73165ea43a691d4377d"),
        ("", "p_80b52008585baece92d78979f7e23178"),
        ("käthe 漢字", "p_dc15b93c0242564df78542d2c15061f0"),
    ],
)
def test_pseudonyms_stay_what_they_are_from_version_to_version(user: str, expected: str) -> None:
    assert of(KEY).of(user) == expected, "lakes that are there would mix two pseudonyms of a user"


def test_the_fingerprint_stays_what_it_is_too() -> None:
    assert of(KEY).fingerprint == "ec46e7ab874a5a4f"


def test_no_user_has_no_pseudonym() -> None:
    assert of(KEY).of(None) is None


def test_another_key_makes_other_pseudonyms_and_another_fingerprint() -> None:
    one, other = of(KEY), of(f"{KEY}x")
    assert one.of("alice") != other.of("alice")
    assert one.fingerprint != other.fingerprint


def test_what_is_kept_in_memory_has_a_bound_and_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.pseudonyms._REMEMBERED", 3)
    bounded = of(KEY)
    users = [f"user_{number % 7}" for number in range(50)]
    assert [bounded.of(user) for user in users] == [of(KEY).of(user) for user in users]
    assert len(bounded._known) <= 3


def test_neither_the_key_nor_an_id_is_shown() -> None:
    pseudonyms = of(KEY)
    pseudonyms.of("planted-person")
    shown = (
        f"{pseudonyms!r} {pseudonyms} {pseudonyms.fingerprint} {pseudonyms.of('planted-person')}"
    )
    assert KEY not in shown
    assert "planted-person" not in shown
