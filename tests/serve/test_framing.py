"""Where one request ends and the next begins: nobody gets the answer to a request that is not his.

A proxy in front and the server behind it must see the same requests in the same bytes. What could
be read in two ways is refused, and ends the connection: whatever follows is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.serve import Server
from tests.serve.asking import KEYS, serving
from tests.serve.raw import TARGET, answers, page

LAST = page(7, "Connection: close")
"""Behind each case: it is answered only where what came before it has ended without a doubt."""
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home) as running:
        yield running


@pytest.fixture(scope="module")
def locked(home: Path) -> Iterator[Server]:
    with serving(home, keys=KEYS) as running:
        yield running


PIPELINED: dict[str, tuple[bytes, list[int]]] = {
    "two": (page(1) + page(2), [1, 2, 7]),
    "five, of which some are kept": (b"".join(map(page, (1, 3, 2, 3, 1))), [1, 3, 2, 3, 1, 7]),
    "an error between pages": (page(1) + page(2_000) + page(2), [1, 400, 2, 7]),
    "an unknown path between pages": (
        page(1) + b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n" + page(2),
        [1, 404, 2, 7],
    ),
    "one that closes": (page(1) + page(2, "Connection: close") + page(3), [1, 2]),
    "HTTP/1.0": (page(1, version="1.0") + page(2), [1]),
    "HTTP/1.0 that is to be kept": (page(1, "Connection: keep-alive", version="1.0"), [1]),
    "empty lines before one": (b"\r\n\r\n" + page(1) + b"\r\n" + page(2), [1, 2, 7]),
}


@pytest.mark.parametrize("name", PIPELINED)
def test_pipelined_requests_are_answered_in_their_order(server: Server, name: str) -> None:
    sent, expected = PIPELINED[name]
    assert answers(server, sent + LAST) == expected
    assert answers(server, *(bytes([byte]) for byte in sent + LAST)) == expected


def test_of_many_pipelined_requests_the_first_are_answered_and_the_rest_may_be_sent_again(
    server: Server,
) -> None:
    asked = [number % 60 + 1 for number in range(500)]
    found = answers(server, b"".join(map(page, asked)))
    assert 8 <= len(found) < 500
    assert found == asked[: len(found)]


NONSENSE = b"nonsense\r\n\r\n"


@pytest.mark.parametrize("before", [1, 2, 3])
def test_what_is_no_request_is_not_answered_in_the_place_of_one_that_is(
    server: Server, before: int
) -> None:
    new = [page(number + 1) for number in range(before)]
    found = answers(server, b"".join(new) + NONSENSE + LAST)
    assert found == [1, 2, 3][:before]


# What could be read in two ways

SMUGGLED = page(3)
INNER = b"0\r\n\r\n" + SMUGGLED


def with_body(*headers: str, body: bytes, method: str = "GET", buckets: int = 1) -> bytes:
    return page(buckets, *headers).replace(b"GET", method.encode(), 1) + body


CHUNK = b"5\r\nhello\r\n"
REFUSED: dict[str, bytes] = {
    "a length and chunks": with_body(f"Content-Length: {len(INNER)}", CHUNKED, body=INNER),
    "chunks and a length": with_body(CHUNKED, "Content-Length: 5", body=INNER),
    "two lengths": with_body(
        "Content-Length: 0", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED
    ),
    "the same length twice": with_body("Content-Length: 5", "Content-Length: 5", body=b"hello"),
    "two lengths in one line": with_body("Content-Length: 0, 5", body=SMUGGLED),
    "the same length twice in one line": with_body("Content-Length: 5, 5", body=b"hello"),
    "a length below zero": with_body("Content-Length: -1", body=SMUGGLED),
    "a length with a sign": with_body("Content-Length: +5", body=b"hello"),
    "a length in hexadecimal": with_body("Content-Length: 0x5", body=b"hello"),
    "a length with a space inside": with_body("Content-Length: 1 0", body=SMUGGLED),
    "no length": with_body("Content-Length: ", body=SMUGGLED),
    "a length beyond all numbers": with_body(f"Content-Length: {2**64 + 5}", body=b"hello"),
    "a name before a space": with_body("Content-Length : 5", body=b"hello"),
    "a name before a tab": with_body("Transfer-Encoding\t: chunked", body=INNER),
    "a name with a control character": with_body("Transfer\x0b-Encoding: chunked", body=INNER),
    "a header without a name": page(1, ": chunked"),
    "a header without a colon": page(1, "Content-Length"),
    "a value with a null": page(1, "X: a\x00b"),
    "a coding that is not known": with_body("Transfer-Encoding: xchunked", body=INNER),
    "identity": with_body("Transfer-Encoding: identity", body=INNER),
    "chunked before another coding": with_body("Transfer-Encoding: chunked, gzip", body=INNER),
    "chunked, and then identity": with_body(CHUNKED, "Transfer-Encoding: identity", body=INNER),
    "chunked twice": with_body(CHUNKED, CHUNKED, body=INNER),
    "chunked behind a vertical tab": with_body("Transfer-Encoding: \x0bchunked", body=INNER),
    "a folded line": page(1, "X: a\r\n Content-Length: 5"),
    "a folded line with a tab": page(1, "Transfer-Encoding:\r\n\tchunked") + INNER,
    "a line that begins with a space": page(1).replace(b"Host", b" Host"),
    "bare LF at the end of a line": page(1).replace(b"\r\nHost", b"\nHost"),
    "bare LF at the end of a header": page(1, "X: a\nContent-Length: 5") + b"hello",
    "bare LF at the end of the head": page(1)[:-4] + b"\n\n" + SMUGGLED,
    "bare CR at the end of a header": page(1, "X: a\rContent-Length: 5") + b"hello",
    "bare CR at the end of the head": page(1)[:-2] + b"\r" + SMUGGLED,
    "a chunk's length in a wrong base": with_body(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk's length below zero": with_body(CHUNKED, body=b"-1\r\n" + SMUGGLED),
    "a chunk's length beyond all numbers": with_body(
        CHUNKED, body=b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"
    ),
    "a chunk's length before a space": with_body(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n"),
    "no chunk's length": with_body(CHUNKED, body=b"\r\n" + SMUGGLED),
    "bare LF behind a chunk's length": with_body(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"),
    "bare LF behind a chunk": with_body(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n"),
    "a chunk that is longer than it says": with_body(CHUNKED, body=b"5\r\nhello!\r\n0\r\n\r\n"),
    "bare LF in an extension": with_body(CHUNKED, body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "no host": page(1).replace(b"Host: localhost\r\n", b""),
    "two hosts": page(1, "Host: evil.example"),
    "the same host twice": page(1, "Host: localhost"),
    "two hosts in one line": page(1).replace(b"localhost", b"localhost, evil.example"),
    "a target of another host": page(1, target=f"http://evil.example{TARGET}"),
    "a target with another host's name before it": page(1, target=f"http://a@localhost{TARGET}"),
    "a target of no host": page(1, target=f"http://{TARGET}"),
    "a target that is an authority": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    "a target without a slash": page(1, target=TARGET[1:]),
    "a target with a space": page(1, target=f"{TARGET}& "),
    "a target with a fragment": page(1, target=f"{TARGET}&limit=3#"),
    "no version": page(1).replace(b" HTTP/1.1", b""),
    "a version that is none": page(1, version="1.2"),
    "a later version": page(1, version="2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in small letters": page(1).replace(b"GET", b"get"),
    "more headers than anyone sends": page(1, *(f"X-{number}: a" for number in range(2_000))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(
    server: Server, name: str
) -> None:
    sent = REFUSED[name]
    assert answers(server, sent + LAST) == [400]
    assert answers(server, page(2) + sent + LAST) == [2]
    assert answers(server, sent[:-9], sent[-9:] + LAST) == [400]


# What has a body

BODIES: dict[str, tuple[bytes, int]] = {
    "a length": (with_body("Content-Length: 5", body=b"hello"), 1),
    "a request in the body": (with_body(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED), 1),
    "a length of a POST": (with_body("Content-Length: 5", method="POST", body=b"hello"), 405),
    "chunks": (with_body(CHUNKED, body=CHUNK + b"0\r\n\r\n"), 1),
    "no chunk": (with_body(CHUNKED, body=b"0\r\n\r\n"), 1),
    "chunks with extensions": (with_body(CHUNKED, body=b'5;a="b"\r\nhello\r\n0;c\r\n\r\n'), 1),
    "a request in a chunk": (
        with_body(CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        1,
    ),
    "trailers": (with_body(CHUNKED, body=b"0\r\nX-On-Behalf-Of: a\r\n\r\n"), 1),
    "a host among the trailers": (with_body(CHUNKED, body=b"0\r\nHost: evil.example\r\n\r\n"), 1),
    "an upgrade": (page(1, "Connection: Upgrade", "Upgrade: websocket"), 1),
    "an upgrade to HTTP/2": (
        page(1, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        1,
    ),
    "an upgrade of a request with a body": (
        with_body("Connection: Upgrade", "Upgrade: a", "Content-Length: 5", body=b"hello"),
        1,
    ),
    "a body that is announced": (
        with_body("Expect: 100-continue", "Content-Length: 5", body=b"hello"),
        1,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_has_a_body_or_wants_another_protocol_is_answered_once_and_ends_the_connection(
    server: Server, name: str
) -> None:
    sent, expected = BODIES[name]
    assert answers(server, sent + LAST) == [expected]
    assert answers(server, page(2) + sent + LAST) == [2, expected]
    assert answers(server, *(bytes([byte]) for byte in sent), LAST) == [expected]


def test_what_is_announced_is_not_asked_for(server: Server) -> None:
    """Also where the page is new, so that the server waits for it."""
    announced = with_body("Expect: 100-continue", "Content-Length: 5", body=b"", buckets=13)
    assert answers(server, announced) == [13]
    assert answers(server, page(14, "Expect: 100-continue") + LAST) == [14, 7]


def test_a_length_of_nothing_is_no_body(server: Server) -> None:
    assert answers(server, page(1, "Content-Length: 0") + LAST) == [1, 7]


def test_a_target_that_names_this_host_is_a_target(server: Server) -> None:
    named = page(1, target=f"http://localhost{TARGET}")
    assert answers(server, named + LAST) == [1, 7]


def test_a_body_is_no_place_for_a_key(locked: Server) -> None:
    key = f"Authorization: Bearer {KEYS[0]}\r\n\r\n".encode()
    assert answers(locked, with_body(CHUNKED, body=b"0\r\n" + key)) == [401]
    assert answers(locked, with_body(f"Content-Length: {len(key)}", body=key)) == [401]


PARTS = {
    **{f"pipelined: {name}": (*case, False) for name, case in PIPELINED.items()},
    **{f"refused: {name}": (sent, [400], True) for name, sent in REFUSED.items()},
    **{f"body: {name}": (sent, [answer], True) for name, (sent, answer) in BODIES.items()},
}


@given(
    names=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3),
    cuts=st.lists(st.floats(0, 1), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_how_bytes_are_cut_into_pieces_changes_no_answer(
    server: Server, names: list[str], cuts: list[float]
) -> None:
    expected: list[int] = []
    for name in names:
        _, found, ends = PARTS[name]
        expected += found[:-1] if found[-1] == 7 else found
        if ends or found[-1] != 7:
            break
    else:
        expected.append(7)
    sent = b"".join(PARTS[name][0] for name in names) + LAST
    places = sorted({0, *(round(cut * len(sent)) for cut in cuts), len(sent)})
    found = answers(server, *(sent[start:end] for start, end in pairwise(places)))
    # What is no request is answered where nothing is under way, and else the connection ends.
    assert found == expected or (expected[-1] == 400 and found == expected[:-1])
