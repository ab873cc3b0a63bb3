"""Each step on the way to the gateway fails under its own name, with what to do."""

from __future__ import annotations

import gc
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import httpx
import pytest

from pipeline.api import conversations, usage
from pipeline.cli.network import say_route
from pipeline.doctor import Finding
from pipeline.emulator import EmulatorServer, Faults, synthetic_world
from pipeline.settings import SettingsError, load_settings
from tests.doctor.conftest import Look, told
from tests.loopback import answering, certificate
from tests.proxies import Proxy, connect_proxy, socks_proxy

STEPS = ("DNS", "TCP", "TLS", "clock", "keys")


def test_a_gateway_that_is_well_is_found_to_be(look: Look, server: EmulatorServer) -> None:
    found = look(*STEPS, now=time.time)
    assert {one.state for one in found} == {"ok"}
    assert [one.subject for one in found] == [*STEPS, "keys"]
    assert found[-1].found == "MKA1_API_KEYS is not set: conversations are not read"


def test_it_costs_a_minute_of_usage_and_a_conversation_a_key(
    place: pytest.MonkeyPatch, look: Look, server: EmulatorServer
) -> None:
    ring = dict(list(server.api_keys.items())[:2])
    place.setenv("MKA1_API_KEYS", ",".join(f"{name}={key}" for name, key in ring.items()))
    found = look("keys")
    assert {one.state for one in found} == {"ok"}
    assert [one.found.partition(" ")[0] for one in found] == ["MKA1_API_KEY", *ring]
    asked = sorted(httpx.URL(line).copy_with(query=None).path for _, line, _ in server.requests)
    assert asked == sorted([usage.PATH, conversations.PATH, conversations.PATH])
    for _, line, _ in server.requests:
        params = httpx.URL(line).params
        assert params["limit"] == "1"
        assert int(params.get("end_time", 60)) - int(params.get("start_time", 0)) == 60


def test_a_name_without_an_address_is_told_as_that(place: pytest.MonkeyPatch, look: Look) -> None:
    def lost(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    place.setenv("MKA1_BASE_URL", "https://gateway.example")
    place.setattr(socket, "getaddrinfo", lost)
    found = look(*STEPS)
    assert [one.state for one in found] == ["failed", *["skipped"] * 4]
    assert found[0].found == "gateway.example has no address (Name or service not known)"
    assert "MKA1_BASE_URL" in found[0].fix
    assert [one.found for one in found[1:3]] == [
        "not looked at: see DNS above",
        "not looked at: see TCP above",
    ]


def test_a_port_that_nobody_listens_on_is_told_as_that(
    place: pytest.MonkeyPatch, look: Look, unused_port: int
) -> None:
    place.setenv("MKA1_BASE_URL", f"https://127.0.0.1:{unused_port}")
    found = look(*STEPS)
    assert [one.state for one in found] == ["ok", "failed", *["skipped"] * 3]
    assert "Connection refused" in found[1].found
    assert "firewall" in found[1].fix


def test_a_server_that_speaks_no_tls_gets_no_key(
    place: pytest.MonkeyPatch, look: Look, server: EmulatorServer
) -> None:
    place.setenv("MKA1_BASE_URL", server.base_url.replace("http:", "https:"))
    found = look(*STEPS)
    assert [one.state for one in found] == ["ok", "ok", "failed", "skipped", "skipped"]
    assert "does not speak TLS" in found[2].found


@pytest.mark.parametrize(("trusted", "state"), [(True, "warning"), (False, "failed")])
def test_a_certificate_is_refused_or_said_to_run_out(
    trusted: bool, state: str, place: pytest.MonkeyPatch, look: Look, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:  # then the test before this one has to do
        return
    authority, tls = certificate(tmp_path, "127.0.0.1")
    if trusted:
        place.setenv("SSL_CERT_FILE", str(authority))
    with answering(200, tls=tls) as gateway:
        place.setenv("MKA1_BASE_URL", gateway.url)
        found = look("DNS", "TCP", "TLS", "clock", now=time.time)
        assert [one.state for one in found][:3] == ["ok", "ok", state]
        assert [one.state for one in found][3] == ("ok" if trusted else "skipped")
    if trusted:  # it is made for two days
        assert "is good until" in found[2].found
    else:
        assert "is refused: self-signed certificate" in found[2].found
        assert "SSL_CERT_FILE" in found[2].fix
        assert gateway.requests == []


def test_a_proxy_is_what_is_connected_to(
    place: pytest.MonkeyPatch, look: Look, unused_port: int
) -> None:
    place.setenv("MKA1_BASE_URL", "https://gateway.example")
    place.setenv("https_proxy", f"http://127.0.0.1:{unused_port}")
    found = look("DNS", "TCP")
    assert [one.state for one in found] == ["ok", "failed"]
    assert f"the proxy 127.0.0.1:{unused_port} of https_proxy" in found[1].found
    assert "https_proxy" in found[1].fix


ENVIRONMENT: list[tuple[Mapping[str, str], str, str]] = [
    ({}, "ok", "directly: no proxy is set"),
    ({"NO_PROXY": "10.0.0.0/8,fd00::/8,[::1]"}, "ok", "directly: NO_PROXY is set, but no proxy"),
    ({"NO_PROXY": "host:abc"}, "warning", "NO_PROXY: 'host:abc' is none of its forms, so ignored"),
    ({"ALL_PROXY": "socks5h://u:s3cret@p"}, "ok", "through the proxy socks5h://p of ALL_PROXY"),
    ({"HTTPS_PROXY": "socks9://u:s3cret@p"}, "failed", "HTTPS_PROXY: socks9://p is of a kind"),
    ({"SSL_CERT_FILE": "/none.pem"}, "failed", "SSL_CERT_FILE: /none.pem can't be read"),
    ({"SSL_CERT_DIR": "/none"}, "failed", "SSL_CERT_DIR: /none can't be read"),
    ({"SSLKEYLOGFILE": "/none/k"}, "failed", "SSLKEYLOGFILE: /none/k can't be written to"),
]


@pytest.mark.parametrize(("variables", "state", "words"), ENVIRONMENT)
def test_doctor_says_of_the_environment_what_a_run_says(
    variables: Mapping[str, str], state: str, words: str, place: pytest.MonkeyPatch, look: Look
) -> None:
    place.setenv("MKA1_BASE_URL", "https://gateway.example")
    for name, value in variables.items():
        place.setenv(name, value)
    (found,) = look("network")
    assert found.state == state
    assert words in found.found
    assert bool(found.fix) is (state != "ok")
    assert "s3cret" not in told([found])
    if state == "failed":
        assert look("network", *STEPS)[1:] == [
            *(Finding("skipped", name, f"not looked at: see {of} above") for name, of in SKIPPED),
        ]
    with pytest.raises(SettingsError) if state == "failed" else nullcontext() as refusal:
        say_route(load_settings())
    if refusal is not None:
        assert str(refusal.value) == f"{found.found}: {found.fix}"


SKIPPED = [
    ("DNS", "network"),
    ("TCP", "DNS"),
    ("TLS", "TCP"),
    ("clock", "TLS"),
    ("keys", "TLS"),
]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore, after SOCKS fails
@pytest.mark.parametrize(("scheme", "made"), [("http", connect_proxy), ("socks5", socks_proxy)])
def test_a_proxy_that_refuses_is_told_by_its_variable(
    scheme: str,
    made: Callable[..., AbstractContextManager[Proxy]],
    place: pytest.MonkeyPatch,
    look: Look,
) -> None:
    place.setenv("MKA1_BASE_URL", "https://gateway.example")
    with made(password="right") as proxy:
        place.setenv("ALL_PROXY", f"{scheme}://user:wrong@{proxy.address}")
        found = look(*STEPS)
        gc.collect()
    assert [one.state for one in found][:5] == ["ok", "ok", "ok", "failed", "failed"]
    assert "user name and password" in found[3].fix
    assert "ALL_PROXY" in found[4].found
    assert "wrong" not in told(found)


def test_a_gateway_on_ipv6_is_looked_at_as_any(
    place: pytest.MonkeyPatch, look: Look, unused_port: int
) -> None:
    with EmulatorServer(synthetic_world(days=1, users=3), host="::1") as server:
        place.setenv("MKA1_BASE_URL", server.base_url)
        place.setenv("MKA1_API_KEY", server.api_key)
        found = look("network", *STEPS, now=time.time)
        assert {one.state for one in found} == {"ok"}
    place.setenv("MKA1_BASE_URL", f"https://[::1]:{unused_port}")
    assert f"[::1]:{unused_port} can't be connected to" in look("DNS", "TCP")[1].found


SKEWS = [
    (0.0, "ok", "within"),
    (3.0, "ok", "within"),
    (20.0, "warning", "ahead of"),
    (-20.0, "warning", "behind"),
    (90.0, "failed", "ahead of"),
    (-86_400.0, "failed", "behind"),
]


@pytest.mark.parametrize(("seconds", "state", "words"), SKEWS)
def test_a_clock_that_is_wrong_is_told_by_how_much(
    seconds: float, state: str, words: str, look: Look, place: pytest.MonkeyPatch
) -> None:
    noon = "Mon, 01 Jan 2024 12:00:00 GMT"
    place.setattr(httpx, "head", lambda *_, **__: httpx.Response(404, headers={"Date": noon}))
    there = 1_704_110_400.5  # in the middle of that second
    (found,) = look("clock", now=lambda: there + seconds)
    assert found.state == state
    assert words in found.found
    if state != "ok":
        assert f"{abs(seconds):,.0f} s" in found.found
        assert "timedatectl" in found.fix


@pytest.mark.parametrize("headers", [{}, {"Date": "soon"}])
def test_a_gateway_that_does_not_say_the_time_is_no_failure(
    headers: Mapping[str, str], look: Look, place: pytest.MonkeyPatch
) -> None:
    place.setattr(httpx, "head", lambda *_, **__: httpx.Response(404, headers=headers))
    assert [one.state for one in look("clock")] == ["skipped"]


ANSWERS = [
    (401, "failed", "is refused (401)"),
    (403, "failed", "may not read"),
    (429, "warning", "has spent a quota (429)"),
    (400, "failed", "was refused with 400"),
    (503, "failed", "failed after 1 try"),
    (302, "failed", "not followed"),
    (200, "failed", "an error in the place of a page"),
]


@pytest.mark.parametrize(("status", "state", "words"), ANSWERS)
def test_what_becomes_of_each_key_is_told_by_its_id(
    status: int, state: str, words: str, place: pytest.MonkeyPatch, look: Look
) -> None:
    place.setenv("MKA1_API_KEYS", "key_a=hush-hush-a,key_b=hush-hush-b")
    body = b'{"error": "who is hush-hush-a?"}'
    with answering(status, {"Location": "https://elsewhere.example"}, body) as gateway:
        place.setenv("MKA1_BASE_URL", gateway.url)
        found = look("keys")
    assert [one.state for one in found] == [state] * 3
    whose = ["MKA1_API_KEY", "key_a of MKA1_API_KEYS", "key_b of MKA1_API_KEYS"]
    for name, one in zip(whose, found, strict=True):
        assert one.found.startswith(name)
        assert words in one.found
        assert one.fix
    assert "hush-hush" not in told(found)
    assert "emulator-" not in told(found)
    assert len(gateway.requests) == 3, "nothing is tried twice"


def test_a_key_that_is_wrong_does_not_hide_the_ones_that_are_right(
    place: pytest.MonkeyPatch, look: Look, server: EmulatorServer
) -> None:
    key_id, secret = next(iter(server.api_keys.items()))
    place.setenv("MKA1_API_KEYS", f"key_old=long-revoked,{key_id}={secret}")
    found = look("keys")
    assert [one.state for one in found] == ["ok", "failed", "ok"]
    assert found[1].found == "key_old of MKA1_API_KEYS is refused (401)"


def test_a_quota_that_is_spent_is_a_warning(look: Look, server: EmulatorServer) -> None:
    server.faults = Faults(quota=0)
    assert look("keys")[0].state == "warning"
