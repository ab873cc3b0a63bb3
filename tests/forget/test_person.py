"""An id counts as found where it stands by itself, whoever has written it down and how."""

from __future__ import annotations

import json
import re
from contextlib import closing
from urllib.parse import quote

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.forget import person_of
from pipeline.pseudonyms import Pseudonyms

NAMED = (
    "ada",
    "user ada",
    '{"user": "ada"}',
    "['ada', 'bob']",
    "it was ada.",
    "ada, bob",
    "2 found\\nada: 5",
    "https://x.example/?user=ada&n=5",
)
NOT_NAMED = ("", "ada2", "canada", "ada@example.com", "ada.b", "x-ada", "ada-x", "Ada", "häda")


@pytest.mark.parametrize("text", NAMED)
def test_a_text_that_has_the_id_by_itself_names_the_person(text: str) -> None:
    ada = person_of("ada", None)
    assert ada.is_in(text)
    assert ada.is_in_bytes(text.replace("\\n", "\n").encode())
    assert not ada.is_in(ada.replaced(text, "forgotten_1"))


@pytest.mark.parametrize("text", NOT_NAMED)
def test_a_text_that_has_it_as_part_of_another_one_does_not(text: str) -> None:
    ada = person_of("ada", None)
    assert not ada.is_in(text)
    assert not ada.is_in_bytes(text.encode())
    assert ada.replaced(text, "forgotten_1") == text


@pytest.mark.parametrize("text", [*(text for text in NAMED if "\\" not in text), *NOT_NAMED])
def test_the_database_finds_what_is_found_here(text: str) -> None:
    ada = person_of("ada", None)
    with closing(duckdb.connect()) as con:
        params = {"text": text, "pattern": ada.portable_pattern}
        found = con.execute("SELECT regexp_matches($text, $pattern)", params).fetchall()
    assert found == [(ada.is_in(text),)]


@settings(max_examples=25)
@given(
    st.text(min_size=1).filter(
        lambda text: text.strip() and not re.search(r"[\ud800-\udfff]", text)
    )
)
def test_any_id_is_found_as_json_and_urls_write_it_and_can_be_replaced(user: str) -> None:
    person = person_of(user, None)
    for text in (user, json.dumps(user), json.dumps({"a": user}, ensure_ascii=False), quote(user)):
        assert person.is_in(f" {text} ") or "\\" in text
        assert person.is_in_bytes(f" {text} ".encode())


def test_with_pseudonyms_the_real_id_and_the_pseudonym_mean_the_same_person() -> None:
    pseudonyms = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))
    stored = pseudonyms.of("ada")
    assert person_of("ada", pseudonyms).stored_id == stored
    assert person_of("ada", pseudonyms).words == (stored, "ada")
    assert person_of(stored, pseudonyms).words == (stored,)


def test_nobody_has_an_empty_id() -> None:
    with pytest.raises(ValueError, match="not empty"):
        person_of(" ", None)
