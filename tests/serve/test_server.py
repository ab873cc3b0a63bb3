"""Over a socket: neither a head without an end nor a client that hangs up does the server harm."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from pipeline.api.usage import PATH
from pipeline.serve import Server, build_app
from pipeline.settings import load_settings
from tests.serve.asking import ask, client, serving
from tests.serve.raw import REQUEST, WINDOW, connected, said


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home) as running:
        yield running


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_in_the_shape_of_the_api(
    server: Server, request_: bytes
) -> None:
    with closing(connected(server)) as connection:
        connection.sendall(request_)
        head, _, body = said(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert body == b'{"error":"Invalid HTTP request received."}'


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET / HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\nHost: x\r\na: a\r\n"]
)
def test_a_head_without_an_end_is_not_taken_in(server: Server, begin: bytes) -> None:
    with closing(connected(server)) as connection:
        connection.sendall(begin)
        sent = 0
        try:
            while sent < 64:
                connection.sendall(b"a" * 65_536)
                sent += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 64


def test_the_next_head_on_a_connection_may_be_as_long_as_the_first(server: Server) -> None:
    long = b"X-Filler: " + b"a" * 60_000 + b"\r\n\r\n"
    with closing(connected(server)) as connection:
        for _ in range(4):
            connection.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\n" + long))
            assert connection.recv(12) == b"HTTP/1.1 200"
            assert connection.recv(65_536).endswith(b"}")


def test_a_body_that_nobody_asked_for_does_no_harm(server: Server) -> None:
    with client(server.url) as http:
        for _ in range(2):
            answer = http.request("GET", f"{PATH}?{WINDOW}", content=b"a" * 500_000)
            assert answer.status_code == 200


def test_a_client_that_goes_away_does_no_harm(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(home) as server:
        for length in (1, 30, len(REQUEST)) * 10:
            with closing(connected(server)) as connection:
                connection.sendall(REQUEST[:length])
        with client(server.url) as http:
            assert ask(http, WINDOW).status_code == 200
    assert "".join(capfd.readouterr()) == ""


def test_a_thousand_clients_at_once_are_all_answered(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(4_096, hard) if hard != resource.RLIM_INFINITY else 4_096
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many), hard))
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    arrived = asyncio.Semaphore(0)

    async def one(number: int, all_here: asyncio.Event) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        arrived.release()
        await all_here.wait()
        limit = number % 24 + 1
        writer.write(REQUEST.replace(b" HTTP", b"&bucket_width=1h&limit=%d HTTP" % limit, 1))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.close()
        assert body.count(b'"bucket"') == limit
        return head[:12]

    async def all_of_them() -> set[bytes]:
        all_here = asyncio.Event()
        asking = asyncio.gather(*(one(number, all_here) for number in range(1_000)))
        for _ in range(1_000):
            await arrived.acquire()
        all_here.set()
        return set(await asking)

    try:
        assert asyncio.run(all_of_them()) == {b"HTTP/1.1 200"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_its_port_is_free_once_it_has_stopped(home: Path) -> None:
    with serving(home) as server:
        port = int(server.url.rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))


def test_it_serves_ipv6(home: Path) -> None:
    with Server(build_app(load_settings(home=home)), "::1") as server:
        assert server.url.startswith("http://[::1]:")
        with httpx.Client(base_url=server.url, trust_env=False, verify=False) as http:
            assert ask(http, WINDOW).status_code == 200
