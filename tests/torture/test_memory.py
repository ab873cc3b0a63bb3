"""A load's memory has a bound, whatever a server sends: by its wire, its packing or its shape.

Each case is loaded by a process of its own from a server on the loopback interface. The dense ones,
of which a byte becomes an object, are loaded with a smaller limit on bodies: what they take grows
with it.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from subprocess import PIPE, Popen
from typing import Any, Final

import pytest

from pipeline.api import Limits
from pipeline.emulator import START_2024
from tests.benchmarks.measure import REPOSITORY
from tests.bounded import LONG, join, started
from tests.torture.conftest import Figures

MB: Final = 2**20
BOUND: Final = 400 * MB
"""Above what the process had before. A bomb that is packed once takes up to 260 MB: the 64 kB that
are read from the wire at once unpack to 64 MB, beside the 32 MB that are there."""
DENSE: Final = 2 * MB
"""The limit on bodies for those that grow."""
LIMIT: Final = Limits().max_bytes
GIVEN_UP: Final = "is answered with more than"
KEPT_OUT: Final = "Loaded and kept: 0 of 1 day"
NO_PAGE: Final = "is not a page of usage buckets"


MINUTE: Final = (START_2024, START_2024 + 60)
ROW: Final = (
    b'{"object":"organization.usage.conversations.result","num_conversations_created":5,'
    b'"num_items_added":18,"num_operations":30,"user_id":"user_123","api_key_id":"key_abc123"}'
)


@dataclass(frozen=True, slots=True)
class Feast:
    """A body in pieces, how it is said to be packed, and how the load must end."""

    pieces: Callable[[], Iterable[bytes]]
    ended: str
    limit: int = LIMIT
    packing: str | None = None


def deflated(megabytes: int) -> bytes:
    """So many megabytes of blanks, packed, without a head or a checksum; one is as another."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    one = packer.compress(b" " * MB) + packer.flush(zlib.Z_FULL_FLUSH)
    return one * megabytes + packer.flush()


def bomb(megabytes: int) -> bytes:
    """A gzip file of so many megabytes of blanks."""
    checksum = reduce(lambda so_far, _: zlib.crc32(b" " * MB, so_far), range(megabytes), 0)
    end = struct.pack("<LL", checksum, megabytes * MB)
    return gzip.compress(b"")[:10] + deflated(megabytes) + end


def deflated_bomb(megabytes: int) -> bytes:
    """The same as a zlib stream."""
    checksum = reduce(lambda so_far, _: zlib.adler32(b" " * MB, so_far), range(megabytes), 1)
    return zlib.compress(b"", 9)[:2] + deflated(megabytes) + struct.pack(">L", checksum)


def page(begin: bytes, repeated: bytes, size: int, end: bytes = b"") -> Iterator[bytes]:
    """A page of one minute, its results filled up to near `size` bytes."""
    yield b'{"data":[{"start_time":%d,"end_time":%d,"results":[' % MINUTE + begin
    yield repeated * ((size - 1_000) // len(repeated))
    yield end + b']}],"has_more":false}'


def buckets(size: int) -> Iterator[bytes]:
    """A page of one minute, served again and again."""
    one = b'{"start_time":%d,"end_time":%d,"results":[]}' % MINUTE
    yield b'{"data":[' + one
    yield (b"," + one) * ((size - 1_000) // (len(one) + 1))
    yield b'],"has_more":false}'


FEASTS: Final = {
    "a bomb of a gigabyte": Feast(lambda: [bomb(1_024)], GIVEN_UP, packing="gzip"),
    "a bomb in a bomb": Feast(lambda: [gzip.compress(bomb(256))], KEPT_OUT, packing="gzip, gzip"),
    "a deflated bomb": Feast(lambda: [deflated_bomb(512)], GIVEN_UP, packing="deflate"),
    "members without end": Feast(
        lambda: repeat(gzip.compress(b" " * MB)), GIVEN_UP, packing="gzip"
    ),
    "blanks without end": Feast(lambda: repeat(b" " * MB), GIVEN_UP),
    "rows as they should be": Feast(lambda: page(ROW, b"," + ROW, LIMIT), "loaded"),
    "one minute again and again": Feast(lambda: buckets(LIMIT), "loaded"),
    "nulls": Feast(lambda: page(b"null", b",null", LIMIT), "loaded"),
    "brackets": Feast(lambda: [b"[" * (31 * MB)], NO_PAGE),
    "digits": Feast(lambda: page(b'{"num_items_added":7', b"7", LIMIT, b"}"), NO_PAGE),
    "a long id": Feast(lambda: page(b'{"user_id":"x', b"x", DENSE, b'"}'), "loaded", DENSE),
    "halves of surrogate pairs": Feast(
        lambda: page(rb'{"user_id":"\ud83d', rb"\ud83d", DENSE, b'"}'), "loaded", DENSE
    ),
    "rows with half a pair each": Feast(
        lambda: page(rb'{"user_id":"\ud83d"}', rb',{"user_id":"\ud83d"}', DENSE), "loaded", DENSE
    ),
    "bytes that are not UTF-8": Feast(
        lambda: page(b'{"model":"\xff', b"\xff", LIMIT, b'"}'), "more text that is not Unicode"
    ),
    "empty rows": Feast(lambda: page(b"{}", b",{}", DENSE), "loaded", DENSE),
    "unknown fields": Feast(lambda: page(b'{"a":1}', b',{"a":1}', DENSE), "loaded", DENSE),
}


@contextmanager
def serving(body: Feast) -> Iterator[str]:
    """The address of a server that has nothing but that."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            if body.packing:
                self.send_header("Content-Encoding", body.packing)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):  # it is hung up on
                for piece in body.pieces():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            join(thread)


@pytest.fixture(scope="module")
def swallowing() -> Iterator[Popen[str]]:
    """What loads a body after the other."""
    command = [sys.executable, "-m", "tests.torture.swallow"]
    pipes = {"stdin": PIPE, "stdout": PIPE}
    with started(command, cwd=REPOSITORY, seconds=LONG, **pipes) as process:
        yield process


def swallowed(process: Popen[str], url: str, limit: int) -> dict[str, Any]:
    """What it tells of one load."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([url, limit]) + "\n")
    process.stdin.flush()
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


@pytest.mark.parametrize("megabytes", [1, 2])
def test_a_bomb_is_a_file_like_any_other(megabytes: int) -> None:
    assert gzip.decompress(bomb(megabytes)) == b" " * megabytes * MB
    assert zlib.decompress(deflated_bomb(megabytes)) == b" " * megabytes * MB


@pytest.mark.parametrize("name", FEASTS)
def test_whatever_a_server_sends_memory_has_a_bound(
    name: str, swallowing: Popen[str], figures: Figures
) -> None:
    feast = FEASTS[name]
    with serving(feast) as url:
        told = swallowed(swallowing, url, feast.limit)
    taken = told["after"] - told["before"]
    figures(f"memory, {name}", megabytes=taken // MB, of_at_most=BOUND // MB)
    assert taken <= BOUND
    assert feast.ended in told["ended"], told["ended"]
