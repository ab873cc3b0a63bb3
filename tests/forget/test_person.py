"""An id counts as found where it stands by itself, whoever has written it down and how."""

from __future__ import annotations

import html
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.alerts.alert import shown
from pipeline.forget import person_of
from pipeline.lake.engine import literal
from pipeline.pseudonyms import Pseudonyms
from pipeline.report.formatting import name_of

WRITTEN: tuple[Callable[[str], str], ...] = (
    str,
    json.dumps,
    lambda user: json.dumps(user, ensure_ascii=False),
    lambda user: json.dumps({"of": json.dumps([user])}),
    lambda user: json.dumps({"page": html.escape(user)}),
    html.escape,
    escape,
    quote,
    quote_plus,
    lambda user: quote(user, safe=""),
    lambda user: json.dumps(f'mka1-usage sql "user_id = {literal(user)}"'),
    lambda user: '"' + user.replace('"', '""') + '"',
    repr,
)
"""How texts write an id: JSON in JSON, pages, addresses, commands, CSV."""
NAMED = (
    "ada",
    "user ada",
    '{"user": "ada"}',
    "['ada', 'bob']",
    "it was ada.",
    "ada, bob",
    "2 found\\nada: 5",
    "https://x.example/?user=ada&n=5",
    "https://x.example/?q=user%3Dada%20x",
    "%22ada%22",
    "%E2%80%9Cada%E2%80%9D",
    r"\u003cada\u003e",
    r"\u201cada\u201d, ada\u2019s",
    "<td>ada</td>",
    "&lt;ada&gt;",
)
NOT_NAMED = (
    *("", "ada2", "canada", "ada@example.com", "ada.b", "x-ada", "ada-x", "Ada", "häda"),
    *("user=ada%40example.com", "ada%2B1", "ada%2Eb", "ada%C3%A9", "%C3%A4ada", "x%2Dada"),
    *(r"ada\u00e9", r"\u00e4ada", r"ada\u0040example.com", r"ada\\u00e9"),
)


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


@settings(max_examples=25)
@given(
    st.text(min_size=1).filter(
        lambda text: text.strip() and not re.search(r"[\ud800-\udfff]", text)
    )
)
def test_any_id_is_found_as_texts_write_it_and_can_be_replaced(user: str) -> None:
    person = person_of(user, None)
    for written in WRITTEN:
        text = f" {written(user)} "
        assert person.is_in(text)
        assert person.is_in_bytes(text.encode())
        assert not person.is_in(person.replaced(text, "forgotten_1"))


@pytest.mark.parametrize("user", ["ada", 'o\'brien "7" <&> käthe', "漢字", "user_7"])
def test_base64_is_looked_into_and_written_again(user: str) -> None:
    """As in the charts that Dagster shows, and in addresses; of others it is left as it is."""
    person = person_of(user, None)
    for before in ("<svg>", "<svg>1", "<svg>12 ä"):
        svg = f"{before} {user}</svg>"
        packed = b64encode(svg.encode()).decode()
        for text in (f"![x](data:image/svg+xml;base64,{packed})", packed, packed.rstrip("=")):
            assert person.is_in(text)
            after = person.replaced(text, "forgotten_1")
            assert not person.is_in(after)
            again = after.rpartition(",")[2].rstrip(")=")
            whole = again + "=" * (-len(again) % 4)
            assert b64decode(whole).decode() == svg.replace(user, "forgotten_1")
        other = b64encode(f"{before} {user}2</svg>".encode()).decode()
        assert person.replaced(other, "forgotten_1") == other


@pytest.mark.parametrize("user", ["ada", "alan", "grace"])
def test_base64_of_a_short_id_alone_is_looked_into(user: str) -> None:
    person = person_of(user, None)
    text = f"Basic {b64encode(user.encode()).decode()}"
    assert person.is_in(text)
    packed = person.replaced(text, "forgotten_1").removeprefix("Basic ")
    assert b64decode(packed).decode() == "forgotten_1"
    assert not person.is_in(f"Basic {b64encode(user.encode() + b'2').decode()}")


@pytest.mark.parametrize("most", [60, 80])
def test_a_long_id_is_found_where_messages_have_cut_it(most: int) -> None:
    user = "u" * 50 + "ü" * 50
    cut = name_of(user, "user", most) if most == 60 else shown(user, "user")
    assert "…" in cut
    assert person_of(user, None).is_in(cut)
    assert not person_of(user + "2", None).is_in(user)


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        person_of("a\udc80", None)


def test_with_pseudonyms_the_real_id_and_the_pseudonym_mean_the_same_person() -> None:
    pseudonyms = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))
    stored = pseudonyms.of("ada")
    assert person_of("ada", pseudonyms).stored_id == stored
    assert person_of("ada", pseudonyms).words == (stored, "ada")
    assert person_of(stored, pseudonyms).words == (stored,)


def test_nobody_has_an_empty_id() -> None:
    with pytest.raises(ValueError, match="not empty"):
        person_of(" ", None)
