"""Nobody holds the server up without a key: bounds on time, on bytes and on connections."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from subprocess import PIPE
from threading import Event, Semaphore
from typing import cast

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.serve import Server, build_app
from pipeline.serve.connections import Connection, ConnectionLimits
from pipeline.settings import load_settings
from tests.bounded import started
from tests.serve.asking import ask, client
from tests.serve.raw import WINDOW, answers, connected, page, said, taken_apart

HALF = page(1)[:-2]
HURRY = ConnectionLimits(request=0.3, idle=1, unread=0.5)
"""Limits that a test can wait for."""
BODY = page(1, "Content-Length: 10")


@contextmanager
def serving(home: Path, limits: ConnectionLimits) -> Iterator[Server]:
    with Server(build_app(load_settings(home=home)), limits=limits) as server:
        yield server


@contextmanager
def files_at_most(number: int) -> Iterator[None]:
    """Let this process open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY, max(hard, number)):
        pytest.skip(f"this process may open {hard} files only (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_served(server: Server) -> bool:
    """Whether somebody else gets a page meanwhile."""
    with client(server.url) as http:
        return ask(http, WINDOW).status_code == 200


# Time


@pytest.fixture(scope="module")
def hurried(home: Path) -> Iterator[Server]:
    with serving(home, HURRY) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", []),
        (b"\r\n", [408]),
        (b"G", [408]),
        (HALF, [408]),
        (BODY, [408]),
        (BODY + b"hello", [408]),
        (page(1, "Transfer-Encoding: chunked") + b"5\r\nhel", [408]),
        (page(1, "Transfer-Encoding: chunked") + b"0\r\nX: a", [408]),
        (page(1), [1]),
        (page(1) + HALF, [1]),
        (page(1) + page(2) + BODY, [1, 2]),
    ],
)
def test_a_request_has_a_time_to_come_in(hurried: Server, sent: bytes, expected: list[int]) -> None:
    assert answers(hurried, sent) == expected


@pytest.mark.parametrize("begin", [b"", page(1)[:-2] + b"X: ", BODY.replace(b"10", b"100000")])
def test_a_byte_now_and_then_buys_no_time(hurried: Server, begin: bytes) -> None:
    begun = time.monotonic()
    with closing(connected(hurried)) as connection:
        connection.sendall(begin)
        connection.settimeout(0.05)
        came = b""
        while time.monotonic() < begun + 30:
            try:
                connection.sendall(b"a" if begin else b"\n")
                piece = connection.recv(65_536)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            if not piece:
                break
            came += piece
    assert time.monotonic() < begun + 30
    assert taken_apart(came) in ([], [400], [408])


@pytest.mark.parametrize("pieces", [1, 100])
def test_who_does_not_read_an_answer_is_hung_up_on(pieces: int) -> None:
    limits = ConnectionLimits(unread=0.2, slowest=1_000_000_000)
    with Server(big(pieces), limits=limits) as server, closing(silent(server)) as connection:
        connection.sendall(page(1))
        eventually(lambda: open_connections(server) == 1)
        eventually(lambda: open_connections(server) == 0)
        assert len(said(connection)) < SIZE


def test_who_reads_slowly_but_does_gets_the_whole_answer() -> None:
    limits = ConnectionLimits(request=0.2, idle=1, unread=30)
    with Server(big(1), limits=limits) as server, closing(silent(server)) as connection:
        connection.sendall(page(1))
        came = connection.recv(1_000)
        eventually(lambda: unread_by(server) == 1, lasting=1.2)
        came += read_at_last(connection)
    assert taken_apart(came) == [1]


@pytest.mark.slow
def test_of_answers_that_nobody_reads_the_oldest_are_given_up() -> None:
    limits = ConnectionLimits(unread=60, unread_bytes=3 * SIZE)
    with Server(big(1), limits=limits) as server, ExitStack() as stack:
        silents = []
        for _ in range(6):
            silents.append(stack.enter_context(closing(silent(server))))
            silents[-1].sendall(page(1, "Connection: close"))
            assert silents[-1].recv(1) == b"H"
            # Each is seen before the next one asks, and the first one is given up for the fourth.
            eventually(
                lambda: unread_by(server) == min(len(silents), 3) == open_connections(server)
            )
        found = [len(read_at_last(connection)) > SIZE for connection in silents]
    assert found == [False] * 3 + [True] * 3


# Room


@pytest.mark.parametrize("sent", [b"", HALF, BODY, page(1, "Connection: keep-alive")])
def test_twelve_hundred_connections_without_a_request_hold_nobody_up(
    home: Path, sent: bytes
) -> None:
    limits = ConnectionLimits(most=200)
    with files_at_most(4_096), serving(home, limits) as server, ExitStack() as stack:
        for _ in range(1_200):
            connection = stack.enter_context(closing(connected(server)))
            connection.sendall(sent)
        begun = time.monotonic()
        assert is_served(server)
        assert time.monotonic() < begun + 5


@pytest.mark.parametrize("files", [256, pytest.param(1_024, marks=pytest.mark.slow)])
def test_the_command_has_files_left_whatever_comes(home: Path, files: int) -> None:
    program = Path(sys.executable).with_name("mka1-usage")
    command = f"ulimit -n {files} && exec {program} serve --port 0"
    environment = {"MKA1_USAGE_HOME": str(home), "PATH": os.environ["PATH"]}
    with (
        started(["bash", "-c", command], env=environment, stderr=PIPE) as process,
        files_at_most(4_096),
        ExitStack() as stack,
    ):
        assert process.stderr is not None
        url = re.findall(r"http://[\d.:]+", process.stderr.readline())[0]
        host, _, port = url.removeprefix("http://").rpartition(":")
        for _ in range(1_200):
            connection = socket.create_connection((host, int(port)), timeout=60)
            stack.enter_context(closing(connection)).sendall(HALF)
        begun = time.monotonic()
        with client(url) as http:
            assert ask(http, WINDOW).status_code == 200
            assert ask(http, f"{WINDOW}&bucket_width=1h&group_by=user_id").status_code == 200
        assert time.monotonic() < begun + 5
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().count("\n") == 2, "the rest of what it announces, no error"


def test_files_that_the_process_may_open_bound_the_connections() -> None:
    limits = ConnectionLimits()
    with files_at_most(1_024):
        assert limits.connections_at_most() == 384
    with files_at_most(16_384):
        assert limits.connections_at_most() == limits.most


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is no address of other systems")
def test_a_peer_does_not_take_the_room_of_another(home: Path) -> None:
    with serving(home, ConnectionLimits(most=8)) as server, ExitStack() as stack:
        other = stack.enter_context(closing(connected(server, "127.0.0.3")))
        other.sendall(HALF)
        for _ in range(50):
            stack.enter_context(closing(connected(server, "127.0.0.2"))).sendall(HALF)
        assert is_served(server)
        other.sendall(b"\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"


def test_where_all_are_being_answered_a_new_connection_is_told_to_come_again() -> None:
    begun, go_on = Semaphore(0), Event()
    with Server(slow(begun, go_on), limits=ConnectionLimits(most=4)) as server:
        with ExitStack() as stack:
            for _ in range(3):
                connection = stack.enter_context(closing(connected(server)))
                connection.sendall(page(1))
                assert begun.acquire(timeout=60)
            with closing(connected(server)) as refused:
                came = said(refused)
            assert taken_apart(came) == [503]
            assert b"\r\nretry-after: 1\r\n" in came
        eventually(lambda: open_connections(server) == 0)
        go_on.set()
        assert answers(server, page(1, "Connection: close")) == [1]


def test_halves_of_heads_take_no_more_memory_than_there_is_for_them(home: Path) -> None:
    long = HALF + b"X: " + b"a" * 50_000
    limits = ConnectionLimits(held_bytes=500_000)
    with serving(home, limits) as server, ExitStack() as stack:
        first = stack.enter_context(closing(connected(server)))
        first.sendall(long)
        for _ in range(30):
            stack.enter_context(closing(connected(server))).sendall(long)
        assert is_served(server)
        assert said(first) == b""


def test_a_connection_that_was_closed_leaves_its_room(home: Path) -> None:
    with serving(home, ConnectionLimits(most=4, held_bytes=200_000)) as server:
        for number in range(300):
            with closing(connected(server)) as connection:
                connection.sendall((b"", HALF, page(1), page(1) * 2)[number % 4])
        for _ in range(30):
            assert answers(server, page(1) + page(2, "Connection: close")) == [1, 2]
        eventually(lambda: open_connections(server) == 0)
        assert server._server.server_state.held == 0


# Servers that are made for this


SIZE = 16 << 20
"""Bytes of an answer of which a system takes only a part from whom it is not read."""


def big(pieces: int) -> ASGIApp:
    """An app with an answer of that size, sent in so many pieces."""
    body = b'{"data":[0]}'.ljust(SIZE)

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        headers = [(b"content-length", b"%d" % SIZE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(pieces):
            piece = body[SIZE * number // pieces : SIZE * (number + 1) // pieces]
            more = number < pieces - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    return app


def slow(begun: Semaphore, go_on: Event) -> ASGIApp:
    """An app that tells when it begins, and answers when it may go on or is hung up on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        begun.release()
        await receive()
        while not go_on.is_set() and (await receive())["type"] != "http.disconnect":
            pass
        headers = [(b"content-length", b"12")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"data":[0]}'})

    return app


def silent(server: Server) -> socket.socket:
    """A connection whose client takes next to nothing before it reads."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(60)
    connection.connect((host, int(port)))
    return connection


def read_at_last(connection: socket.socket) -> bytes:
    """All that comes, taken as fast as others take it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return said(connection)


def connections(server: Server) -> set[Connection]:
    """Those that are open."""
    return cast("set[Connection]", server._server.server_state.connections)


def open_connections(server: Server) -> int:
    return len(connections(server))


def unread_by(server: Server) -> int:
    """Clients that have not taken all of their answers."""
    return sum(each.unread > 0 for each in connections(server).copy())


def eventually(holds: Callable[[], bool], *, lasting: float = 0.0) -> None:
    """Wait until it holds, and for so many seconds more, in which it must not change."""
    give_up, since = time.monotonic() + 60, None
    while since is None or time.monotonic() < since + lasting:
        assert time.monotonic() < give_up
        if holds():
            since = since or time.monotonic()
        else:
            assert since is None
        Event().wait(0.01)
