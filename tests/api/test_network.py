"""The proxy and certificate settings of the environment work, or one line names the variable."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import ssl
import string
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import certifi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import (
    ApiError,
    Client,
    Limits,
    OutcomeUnknown,
    RouteError,
    Unavailable,
    UsageQuery,
    create_items,
    get_usage,
    route_to,
)
from tests.bounded import finished
from tests.loopback import Loopback, answering, certificate
from tests.proxies import Proxy, connect_proxy, no_proxy_at_all, socks_proxy

PAGE = b'{"data": [], "has_more": false, "next_page": null}'
GATEWAY = "https://apigw.mka1.com"
PASSWORD = "p@ss:w/ord#1"
WRITTEN = "p%40ss%3Aw%2Ford%231"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1, and a server that has it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    return certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def gateway(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Loopback]:
    """An API behind TLS whose certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    with answering(200, body=PAGE, tls=authority[1]) as server:
        yield server


def outcome(url: str, *, post: bool = False, attempts: int = 1) -> object:
    """What one question brings: its answer or its error."""

    async def run() -> object:
        async with Client(url, SecretStr("k-planted"), Limits(attempts=attempts)) as client:
            if post:
                return await create_items(client, "c", [{"type": "message"}])
            return await get_usage(client, UsageQuery(0))

    try:
        return asyncio.run(run())
    except ApiError as error:
        error.__context__ = None  # which holds on to the connection
        failed = error
    with warnings.catch_warnings():
        # httpcore closes no connection on which a SOCKS handshake failed.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return failed


# NO_PROXY

DIRECT = [
    # A name stands for itself and for all below it, in any case, with a dot before or behind it.
    ("apigw.mka1.com", GATEWAY),
    ("APIGW.MKA1.COM", GATEWAY),
    (".mka1.com", GATEWAY),
    ("*.mka1.com", GATEWAY),
    ("mka1.com", GATEWAY),
    ("com", GATEWAY),
    ("apigw.mka1.com.", GATEWAY),
    ("apigw.mka1.com", f"{GATEWAY}."),
    (".apigw.mka1.com", GATEWAY),
    ("apigw.mka1.com:443", GATEWAY),
    ("apigw.mka1.com:8443", f"{GATEWAY}:8443"),
    ("https://apigw.mka1.com", GATEWAY),
    ("all://apigw.mka1.com/", GATEWAY),
    ("bücher.example", "https://xn--bcher-kva.example"),
    ("xn--bcher-kva.example", "https://bücher.example"),
    ("localhost", "https://localhost:8443"),
    # Lists, and what else stands in them.
    ("*", GATEWAY),
    ("other.example,*", GATEWAY),
    ("localhost,127.0.0.1,[::1],10.0.0.0/8,fd00::/8,.svc,.cluster.local, apigw.mka1.com", GATEWAY),
    ("host:abc,apigw.mka1.com", GATEWAY),
    ("a.example apigw.mka1.com", GATEWAY),
    # Addresses and ranges.
    ("10.1.2.3", "https://10.1.2.3"),
    ("10.1.2.3:8443", "https://10.1.2.3:8443"),
    ("10.0.0.0/8", "https://10.1.2.3"),
    ("10.1.2.3/8", "https://10.250.0.1"),
    ("0.0.0.0/0", "https://10.1.2.3"),
    ("::1", "https://[::1]"),
    ("[::1]", "https://[::1]:8443"),
    ("[::1]:8443", "https://[::1]:8443"),
    ("0:0:0:0:0:0:0:1", "https://[::1]"),
    ("fd00::/8", "https://[fd12::7]"),
    ("[fd00::]/8", "https://[fd12::7]"),
    ("FD00::/8", "https://[fd12::7]"),
    ("::ffff:10.1.2.3", "https://10.1.2.3"),
    ("10.0.0.0/8", "https://[::ffff:10.1.2.3]"),
    ("::ffff:10.0.0.0/104", "https://10.1.2.3"),
]
PROXIED = [
    ("", GATEWAY),
    (",, ,", GATEWAY),
    ("1.com", GATEWAY),
    ("ka1.com", GATEWAY),
    ("gw.mka1.com", GATEWAY),
    ("x.apigw.mka1.com", GATEWAY),
    ("apigw.mka1.com:8443", GATEWAY),
    ("apigw.mka1.com:443", f"{GATEWAY}:8443"),
    ("http://apigw.mka1.com", GATEWAY),
    ("10.1.2.4", "https://10.1.2.3"),
    ("1.2.3", "https://10.1.2.3"),
    ("10.2.0.0/16", "https://10.1.2.3"),
    ("10.1.2.3:8443", "https://10.1.2.3"),
    ("fd00::/8", "https://[fe00::7]"),
    ("::/0", "https://10.1.2.3"),
    ("[::1]:8443", "https://[::1]"),
    ("0.0.0.0/0", GATEWAY),  # names are not looked up
]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(("entries", "url"), DIRECT)
def test_what_no_proxy_names_is_reached_directly(
    entries: str, url: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    monkeypatch.setenv(variable, entries)
    route = route_to(url)
    assert route.proxy is None
    assert f"directly, by {variable}, not through the proxy http://proxy.example:3128" in str(
        route.words
    )
    assert "secret" not in route.words


@pytest.mark.parametrize(("entries", "url"), PROXIED)
def test_what_no_proxy_does_not_name_goes_through_the_proxy(
    entries: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    route = route_to(url)
    assert route.first_hop == ("proxy.example", 3128)
    assert route.words == "through the proxy http://proxy.example:3128 of HTTPS_PROXY"


UNREAD = ["host:abc", "host:", ":", "[::1", "[::1]:x", "10.0.0.0/33", "192.168.*", "a/b", "host:0"]


@pytest.mark.parametrize("entry", UNREAD)
def test_an_entry_that_is_none_of_the_forms_is_named_and_ignored(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example")
    monkeypatch.setenv("NO_PROXY", f"one.example,{entry}")
    route = route_to(GATEWAY)
    assert route.proxy is not None
    assert f"NO_PROXY: '{entry}' is none of its forms, so ignored" in route.words
    monkeypatch.setenv("NO_PROXY", f"{entry},{GATEWAY}")
    assert route_to(GATEWAY).proxy is None, "the others count"


@given(
    entries=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
    | st.text(string.punctuation + "0a. ,", max_size=40)
)
def test_no_text_in_no_proxy_raises(authority: tuple[Path, ssl.SSLContext], entries: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority[0]))  # those of the system take long to read
        patch.setenv("HTTPS_PROXY", "proxy.example")
        patch.setenv("NO_PROXY", entries)
        assert "\n" not in route_to(GATEWAY).words


# Which proxy counts

CHOSEN: list[tuple[Mapping[str, str], str]] = [
    ({}, ""),
    ({"NO_PROXY": "a.example"}, "directly: NO_PROXY is set, but no proxy"),
    ({"HTTP_PROXY": "http://p"}, ""),
    ({"HTTPS_PROXY": "http://p"}, "through the proxy http://p of HTTPS_PROXY"),
    ({"https_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "through the proxy http://p:1 of https_proxy"),
    ({"Https_Proxy": "p:1"}, "through the proxy http://p:1 of Https_Proxy"),
    ({"ALL_PROXY": "q", "HTTPS_PROXY": "p"}, "through the proxy http://p of HTTPS_PROXY"),
    ({"all_proxy": "socks5://p"}, "through the proxy socks5://p of all_proxy"),
    ({"HTTPS_PROXY": " "}, ""),
    ({"https_proxy": "", "HTTPS_PROXY": "p"}, ""),
    ({"no_proxy": "", "NO_PROXY": "*", "HTTPS_PROXY": "p"}, "through the proxy http://p of "),
    ({"HTTPS_PROXY": "[::1]:3128"}, "through the proxy http://[::1]:3128 of HTTPS_PROXY"),
    ({"HTTPS_PROXY": "HTTPS://P.example"}, "through the proxy HTTPS://P.example of HTTPS_PROXY"),
]


@pytest.mark.parametrize(("environment", "words"), CHOSEN)
def test_the_variable_that_counts_is_the_one_that_is_named(
    environment: Mapping[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    route = route_to(GATEWAY)
    assert route.words.startswith(words)
    assert bool(route.words) is bool(words)
    assert (route.proxy is None) is ("through the proxy" not in words)


PORTS = [("http://p", 80), ("https://p", 443), ("socks5://p", 1080), ("socks5h://p:9", 9)]


@pytest.mark.parametrize(("value", "port"), PORTS)
def test_a_proxy_without_a_port_has_the_port_of_its_kind(
    value: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    assert route_to(GATEWAY).first_hop == ("p", port)


BAD = [
    "http://user:s3cret@",
    "http://",
    "://p:1",
    "http://user:s3cret@p:abc",
    "user:s3cret@p:99999",
    "http://user:s3#cret@p:1",
    "http://user:s3/cret@p:1",
    "http://user:s3cret",
    "http://user:s3cret@p:0",
    "socks://user:s3cret@p:1",
    "socks4://user:s3cret@p:1",
    "ftp://user:s3cret@p:1",
    "http://user:s3cret@a b:1",
    "http://p:1\nhttp://user:s3cret@q:1",
    "http://::1:3128",
    "http://p\udc80:1",
    "socks5://" + "u" * 256 + ":s3cret@p:1",
]


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_proxy_is_one_line_that_names_the_variable_and_no_password(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(RouteError) as refusal:
        route_to(GATEWAY)
    said = str(refusal.value)
    assert said.startswith("HTTPS_PROXY: ")
    assert "unset it" in said or "shorten it" in said
    assert "\n" not in said
    assert "s3" not in said
    assert "cret" not in said
    said.encode()
    monkeypatch.setenv("NO_PROXY", "*")
    assert route_to(GATEWAY).proxy is None, "what does not count is not complained of"
    assert "s3" not in route_to(GATEWAY).words


@given(value=st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=40))
def test_any_text_is_a_proxy_or_one_line(
    authority: tuple[Path, ssl.SSLContext], value: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority[0]))  # those of the system take long to read
        patch.setenv("HTTPS_PROXY", os.fsdecode(value.encode("utf-8", "surrogatepass")))
        try:
            said = route_to(GATEWAY).words
        except RouteError as error:
            said = str(error)
    trusting = f"trusting the certificates of SSL_CERT_FILE ({authority[0]})"
    assert said == trusting or "HTTPS_PROXY" in said
    assert "\n" not in said


# Through proxies

KINDS: dict[str, tuple[str, Any]] = {
    "http": ("http", connect_proxy),
    "bare": ("", connect_proxy),
    "socks5": ("socks5", socks_proxy),
    "socks5h": ("socks5h", socks_proxy),
}


def named(kind: str, proxy: Proxy, user: str = "") -> str:
    scheme = KINDS[kind][0]
    return f"{scheme}{'://' if scheme else ''}{user}{proxy.address}"


@pytest.mark.parametrize("password", [None, PASSWORD])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_comes_through_a_proxy(
    kind: str,
    variable: str,
    password: str | None,
    gateway: Loopback,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with KINDS[kind][1](password=password) as proxy:
        user = f"user:{WRITTEN}@" if password else ""
        monkeypatch.setenv(variable, named(kind, proxy, user))
        assert not isinstance(outcome(gateway.url), Exception)
        assert proxy.asked == [f"127.0.0.1:{gateway.port}"]
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert not isinstance(outcome(gateway.url), Exception)
        assert len(proxy.asked) == 1, "directly"
    assert len(gateway.requests) == 2


def test_a_proxy_by_tls_is_trusted_by_the_same_certificates(
    gateway: Loopback, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect_proxy(tls=authority[1]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{proxy.address}")
        assert not isinstance(outcome(gateway.url), Exception)
        assert proxy.asked == [f"127.0.0.1:{gateway.port}"]


REFUSALS: list[tuple[str, Mapping[str, Any], str, str]] = [
    ("http", {"password": PASSWORD}, "407 as planned", "user name and password"),
    ("http", {"status": 403}, "403 as planned", "NO_PROXY"),
    ("socks5", {"password": PASSWORD}, "NO ACCEPTABLE METHODS", "user name and password"),
    ("socks5", {"reply": 2}, "not allowed by ruleset", "NO_PROXY"),
]


@pytest.mark.parametrize("post", [False, True])
@pytest.mark.parametrize(("kind", "refusing", "words", "todo"), REFUSALS)
def test_a_proxy_that_refuses_is_told_at_once_by_the_variable(
    kind: str,
    refusing: Mapping[str, Any],
    words: str,
    todo: str,
    post: bool,
    gateway: Loopback,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with KINDS[kind][1](**refusing) as proxy:
        monkeypatch.setenv("ALL_PROXY", named(kind, proxy))
        error = outcome(gateway.url, post=post, attempts=5)
    assert isinstance(error, RouteError)
    assert error.variable == "ALL_PROXY"
    assert words in str(error)
    assert todo in str(error)
    assert gateway.requests == []


def test_a_wrong_password_is_not_quoted(gateway: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("http", "socks5"):
        with KINDS[kind][1](password=PASSWORD) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", named(kind, proxy, "user:planted-word@"))
            error = outcome(gateway.url)
        assert isinstance(error, RouteError)
        assert "planted-word" not in str(error)


PASSING = ["http 503", "socks 5", "text", "nothing", "short"]


@pytest.mark.parametrize("post", [False, True])
@pytest.mark.parametrize("case", PASSING)
def test_a_proxy_that_fails_is_named_after_the_last_try(
    case: str, post: bool, gateway: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        if case == "http 503":
            kind, proxy = "http", stack.enter_context(connect_proxy(status=503))
        elif case == "socks 5":
            kind, proxy = "socks5", stack.enter_context(socks_proxy(reply=5))
        else:
            said = {"text": b"HTTP/1.1 400 Bad Request\r\n\r\n", "nothing": b"", "short": b"\x05"}
            kind, proxy = "socks5", stack.enter_context(no_proxy_at_all(said[case]))
        monkeypatch.setenv("ALL_PROXY", named(kind, proxy))
        error = outcome(gateway.url, post=post)
    assert isinstance(error, Unavailable)
    assert f"through the proxy {KINDS[kind][0]}://{proxy.address} of ALL_PROXY" in str(error)


def test_a_post_that_a_proxy_did_not_pass_on_was_not_taken_in(
    gateway: Loopback, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{unused_port}")
    error = outcome(gateway.url, post=True)
    assert isinstance(error, Unavailable)
    assert not isinstance(error, OutcomeUnknown)
    assert f"socks5://127.0.0.1:{unused_port} of HTTPS_PROXY" in str(error)


# Certificates


def test_a_certificate_that_is_not_trusted_is_told_at_once_with_the_variable(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = certificate(tmp_path, "127.0.0.1")
    with answering(200, body=PAGE, tls=authority[1]) as server:
        error = outcome(server.url, attempts=5)
        assert isinstance(error, Unavailable)
        assert "name the file of it in SSL_CERT_FILE" in str(error)
        assert "after 1 try" in str(error)
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        error = outcome(server.url, attempts=5)
    assert f"SSL_CERT_FILE names the authorities that are trusted ({other})" in str(error)
    assert server.requests == []


def test_certificates_of_a_file_and_of_folders_are_trusted_together(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "trusted"
    folder.mkdir()
    asked = ["openssl", "x509", "-hash", "-noout", "-in", authority[0]]
    hashed = finished(asked).stdout.strip()
    shutil.copy(authority[0], folder / f"{hashed}.0")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}/none{os.pathsep}{folder}")
    with answering(200, body=PAGE, tls=authority[1]) as server:
        assert not isinstance(outcome(server.url), Exception)
        monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
        assert not isinstance(outcome(server.url), Exception)


def wrong(folder: Path, what: str) -> str:
    place = folder / what
    contents = {
        "empty": b"",
        "text": b"no certificate\n",
        "broken": b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        "der": b"\x30\x82\x01\x00" + bytes(300),
    }
    if what in contents:
        place.write_bytes(contents[what])
    elif what == "folder":
        place.mkdir()
    return str(place)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *(("SSL_CERT_FILE", what) for what in ("missing", "empty", "text", "broken", "der")),
        ("SSL_CERT_FILE", "folder"),
        *(("SSL_CERT_DIR", what) for what in ("missing", "empty", "folder")),
    ],
)
def test_certificates_that_are_none_are_one_line(
    name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wrong(tmp_path, what)
    monkeypatch.setenv(name, path)
    with pytest.raises(RouteError, match=rf"^{name}: ") as refusal:
        route_to(GATEWAY)
    assert path in str(refusal.value)
    assert "unset it" in str(refusal.value)
    route_to("http://127.0.0.1:8000")  # where it is not used, it is not complained of


def test_a_file_for_tls_secrets_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "none" / "keys", tmp_path):
        monkeypatch.setenv("SSLKEYLOGFILE", str(path))
        with pytest.raises(RouteError, match=f"SSLKEYLOGFILE: {path}"):
            route_to(GATEWAY)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert "TLS secrets are written to SSLKEYLOGFILE" in route_to(GATEWAY).words
