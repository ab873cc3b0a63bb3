"""The key goes to one host, and only once that host has shown who it is.

Over real sockets: what is looked at is what arrived at the other end.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.api import (
    Client,
    ConversationsQuery,
    ItemsQuery,
    Limits,
    Refused,
    ResponsesQuery,
    Unavailable,
    UsageQuery,
    create_items,
    get_conversations,
    get_items,
    get_usage,
)
from pipeline.api.responses import get_responses
from pipeline.orchestration.resources import Services
from pipeline.settings import Settings, load_settings
from tests.loopback import answering, certificate

KEY = "mka1-planted-Secret_0123456789abcdef"
PAGE = b'{"data": [], "has_more": false, "next_page": null}'
ITEM = {"type": "message", "role": "user", "content": "hello"}

Call = Callable[[Client], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "GET usage": lambda client: get_usage(client, UsageQuery(0)),
    "GET conversations": lambda client: get_conversations(client, ConversationsQuery()),
    "GET items": lambda client: get_items(client, ItemsQuery("c")),
    "GET responses": lambda client: get_responses(client, ResponsesQuery()),
    "POST items": lambda client: create_items(client, "c", [ITEM]),
}


def outcome(url: str, call: Call = CALLS["GET usage"]) -> object:
    """What one question to `url` brings, its error too. Nothing is tried twice."""

    async def run() -> object:
        async with Client(url, SecretStr(KEY), Limits(attempts=1)) as client:
            try:
                return await call(client)
            except (Refused, Unavailable) as error:
                return error

    return asyncio.run(run())


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_redirect_brings_another_server_a_request(what: str, status: int, host: str) -> None:
    with answering(200, body=PAGE) as other:
        location = f"http://{host}:{other.port}/api/v1/llm/usage/conversations"
        with answering(status, {"Location": location}) as asked:
            error = outcome(asked.url, CALLS[what])
    assert isinstance(error, Refused)
    assert error.status == status
    assert KEY not in str(error)
    assert [request.partition(" ")[0] for request in asked.requests] == [what.partition(" ")[0]]
    assert KEY in asked.requests[0], "the host that was meant gets the key"
    assert other.requests == []


# TLS


TLS_CASES = [
    ("127.0.0.1", True, None),
    ("127.0.0.1", False, "self.signed certificate"),
    ("api.example", True, "IP address mismatch"),
    ("127.0.0.2", True, "IP address mismatch"),
]


@pytest.mark.parametrize(("name", "trusted", "refusal"), TLS_CASES)
@pytest.mark.parametrize("what", ["GET usage", "POST items"])
def test_a_server_gets_the_key_only_with_a_certificate_that_is_trusted_and_its_own(
    what: str,
    name: str,
    trusted: bool,
    refusal: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("openssl") is None:  # then what follows from the settings has to do
        return
    cert, tls = certificate(tmp_path, name)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with answering(200, body=PAGE, tls=tls) as server:
        came = outcome(server.url, CALLS[what])
    if refusal is None:
        assert not isinstance(came, Exception)
        assert KEY in server.requests[0], "so the other cases could have failed"
    else:
        assert isinstance(came, Unavailable)
        assert "certificate verify failed" in str(came)
        assert re.search(refusal, str(came))
        assert server.requests == []


SWITCHES = {
    "PYTHONHTTPSVERIFY": "0",
    "CURL_CA_BUNDLE": "",
    "REQUESTS_CA_BUNDLE": "",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "SSL_VERIFY": "false",
    "HTTPX_VERIFY": "0",
}


_CONTEXT = attrgetter("_client._transport._pool._ssl_context")
"""What a connection is verified with, as httpx has it."""


def test_no_setting_turns_verification_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value)
    words = " ".join(Settings.model_fields).lower()
    assert not any(word in words for word in ("verif", "insecure", "tls", "ssl", "cert"))
    for pseudonym_key in (None, KEY):
        settings = load_settings(api_key=KEY, api_keys={"k": KEY}, pseudonym_key=pseudonym_key)
        services = Services(load=partial(Settings.model_copy, settings))
        for client in (services.connect(), services.connect_each()["k"]()):
            found = [_CONTEXT(one) for one in client._connections]
            assert {(one.verify_mode, one.check_hostname) for one in found} == {
                (ssl.CERT_REQUIRED, True)
            }
            assert all(one.minimum_version >= ssl.TLSVersion.TLSv1_2 for one in found)
