"""A key is planted, servers echo it, and it is looked for in everything that comes out."""

from __future__ import annotations

import html
import json
import logging
import string
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import Client, UsageQuery
from pipeline.api.redaction import Bearer

Ask = Callable[..., Any]
KEY = "mka1-planted-Secret_0123456789abcdef"
NASTY = r"""mka1+Se/cr=et&<0>"1'2\3%4;5,6{7}8:9"""

ECHOES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "header": lambda key: f"Authorization: Bearer {key}",
    "url": lambda key: quote(key, safe=""),
    "url, slashes kept": quote,
    "url, lower case": lambda key: quote(key, safe="").lower(),
    "form": quote_plus,
    "url, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "json": json.dumps,
    "json, twice": lambda key: json.dumps(json.dumps(key)),
    "json, slashes escaped": lambda key: json.dumps(key).replace("/", r"\/"),
    "json, signs as numbers": lambda key: "".join(
        c if c.isalnum() else f"\\u{ord(c):04X}" for c in key
    ),
    "html": html.escape,
    "html, signs as numbers": lambda key: "".join(
        c if c.isalnum() else f"&#{ord(c)};" for c in key
    ),
    "repr": lambda key: repr(f"Bearer {key}".encode()),
}


def everything(asked: Any, caplog: pytest.LogCaptureFixture | None = None) -> str:
    """All that a user, a log or Dagster could get to see of an error."""
    chain = "".join(traceback.format_exception(asked.error))
    return "\n".join(
        [chain, repr(asked.error), str(vars(asked.error)), caplog.text if caplog else ""]
    )


@pytest.mark.parametrize("key", [KEY, NASTY])
@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500])
def test_no_echo_of_the_key_gets_through(
    ask: Ask, caplog: pytest.LogCaptureFixture, key: str, echo: str, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    echoed = ECHOES[echo](key)
    body = json.dumps({"oops": ""}).encode() if status == 200 else f"You sent {echoed}!".encode()
    headers = {"Location": f"https://other.example/?k={echoed}", "X-Echo": echoed}
    asked = ask({"status_code": status, "content": body, "headers": headers}, key=key, attempts=2)
    seen = everything(asked, caplog)
    assert echoed not in seen
    assert key not in seen
    assert key[:12] not in seen
    assert status in {200, 302} or "You sent" in asked.message, "what is left is shown"
    if status == 302:
        assert "https://other.example/?k=" in asked.message


def test_a_page_of_the_wrong_shape_does_not_show_the_key(ask: Ask) -> None:
    asked = ask({"json": {"error": f"Bearer {KEY}"}})
    assert "***" in asked.message
    assert KEY not in everything(asked)


@given(
    before=st.integers(0, 900),
    filler=st.sampled_from(["x", " ", "é", f"{KEY} ", "<", "\n"]),
    kept=st.integers(12, len(KEY)),
)
def test_a_cut_never_leaves_a_part_of_the_key(
    ask: Ask, before: int, filler: str, kept: int
) -> None:
    """Neither where the excerpt is cut, nor where the server itself cut the header."""
    body = (filler * before)[: 60 * 1024] + f"Bearer {KEY[:kept]}"
    assert KEY[:12] not in everything(ask({"status_code": 400, "text": body}))
    location = (filler * before).strip() + KEY[:kept]
    if location.isascii() and "\n" not in location:
        moved = {"status_code": 302, "headers": {"Location": location}}
        assert KEY[:12] not in everything(ask(moved))


@given(size=st.integers(-200, 200))
def test_a_cut_of_a_large_body_never_leaves_a_part_of_the_key(ask: Ask, size: int) -> None:
    spaces = b" " * (64 * 1024 + size)
    asked = ask({"content": b'{"a":"' + spaces + KEY.encode() + b'"}'})
    assert KEY[:12] not in everything(asked)


@given(
    key=st.text(string.ascii_letters + string.digits + string.punctuation, min_size=16),
    echo=st.sampled_from(sorted(ECHOES)),
)
def test_whatever_signs_a_key_is_made_of(key: str, echo: str) -> None:
    seen = Bearer(SecretStr(key)).redact(f"before {ECHOES[echo](key)} after")
    assert seen.startswith("before ")
    assert seen.endswith(" after")
    assert "***" in seen
    assert ECHOES[echo](key) not in seen


def test_what_is_not_the_key_is_left_as_it_is() -> None:
    text = 'Bearer tokens such as "mka1-other" at 10% of & <all> / C:\\keys'
    assert Bearer(SecretStr(NASTY)).redact(text) == text


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError(f"no route for Bearer {KEY}"),
        httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"),
        httpx.ReadTimeout(KEY),
    ],
)
def test_no_error_of_the_transport_shows_the_key(
    ask: Ask, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.DEBUG)
    assert KEY not in everything(ask(error, attempts=2), caplog)


def test_a_key_in_the_question_is_not_shown(ask: Ask) -> None:
    asked = ask({"status_code": 400}, query=UsageQuery(0, user_ids=[NASTY]), key=NASTY)
    assert "user_ids=***" in asked.message


def test_the_client_itself_does_not_show_the_key() -> None:
    client = Client("https://api.example", SecretStr(KEY))
    assert KEY not in repr(client) + str(vars(client)) + str(vars(client).values())


def test_the_key_is_sent_as_a_bearer_token_and_only_in_that_header(ask: Ask) -> None:
    request = ask({"status_code": 400}).sent[0]
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    others = [value for name, value in request.headers.items() if name != "authorization"]
    assert KEY not in str(request.url) + "".join(others)
