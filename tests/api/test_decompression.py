"""Bodies are unpacked to their end, as they were asked for, and never at a stroke."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from pipeline.api import UnknownCoding
from pipeline.api.decompression import decompressed

BODY = b'{"data": []}' * 1_000
PACKED = gzip.compress(BODY, mtime=0)
MEMBERS = b"".join(
    gzip.compress(part, mtime=0) for part in (b"", BODY[:1], b"", BODY[1:5_000], BODY[5_000:])
)
RAW_DEFLATE = zlib.compress(BODY)[2:-4]


class Wire(httpx.AsyncByteStream):
    """Bytes in pieces of some size."""

    def __init__(self, content: bytes, size: int) -> None:
        self._content, self._size = content, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), self._size):
            yield self._content[start : start + self._size]


def pieces(content: bytes, packing: str | None, size: int = 65_536) -> list[bytes]:
    """What comes out of a body that goes over the wire like this."""
    headers = {} if packing is None else {"Content-Encoding": packing}
    response = httpx.Response(200, headers=headers, stream=Wire(content, size))

    async def read() -> list[bytes]:
        return [piece async for piece in decompressed(response)]

    return asyncio.run(read())


@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize(
    ("content", "packing"),
    [
        (BODY, None),
        (BODY, "identity"),
        (BODY, " , identity,"),
        (PACKED, "gzip"),
        (PACKED, " GZIP "),
        (PACKED, "x-gzip"),
        (PACKED, "gzip, identity"),
        (PACKED, "Identity,X-GZip"),
        (MEMBERS, "gzip"),
        (PACKED + bytes(512), "gzip"),
        (PACKED + b"garbage", "gzip"),
        (PACKED + b"\x1f", "gzip"),
        (zlib.compress(BODY), "deflate"),
        (zlib.compress(BODY, 1, 9), "deflate"),
        (RAW_DEFLATE, "deflate"),
        (zlib.compress(BODY) + b"garbage", "deflate"),
    ],
)
def test_a_body_comes_out_as_it_was_put_in(content: bytes, packing: str | None, size: int) -> None:
    assert b"".join(pieces(content, packing, size)) == BODY


@pytest.mark.parametrize("length", range(0, len(PACKED), 5))
def test_a_packed_body_that_ends_too_soon_is_refused_wherever_it_ends(length: int) -> None:
    with pytest.raises(httpx.DecodingError, match="ends too soon"):
        pieces(PACKED[:length], "gzip")


@pytest.mark.parametrize("length", [0, 1, 2, 5, len(PACKED) + 5, len(PACKED) + 30])
def test_a_further_member_that_ends_too_soon_is_refused(length: int) -> None:
    with pytest.raises(httpx.DecodingError, match="ends too soon"):
        pieces((PACKED + PACKED)[:length], "gzip")


@pytest.mark.parametrize("body", [zlib.compress(BODY), RAW_DEFLATE])
def test_deflate_that_ends_too_soon_is_refused(body: bytes) -> None:
    for length in range(0, len(body) - 1, 3):
        with pytest.raises(httpx.DecodingError, match="ends too soon"):
            pieces(body[:length], "deflate")


@pytest.mark.parametrize(
    ("packing", "named"),
    [
        ("br", "br"),
        ("zstd", "zstd"),
        ("compress", "compress"),
        ("gzip, gzip", "gzip, gzip"),
        ("gzip, identity, br", "gzip, br"),
        ("x", "x"),
        ("user@example.com", r"\?"),
        (", ".join(["gzip"] * 1_000), "gzip, gzip, gzip,"),
    ],
)
def test_a_coding_that_was_not_asked_for_is_refused_by_its_name(packing: str, named: str) -> None:
    with pytest.raises(UnknownCoding, match=f"content coding {named}"):
        pieces(PACKED, packing)


def test_what_is_no_gzip_or_does_not_add_up_is_refused() -> None:
    with pytest.raises(httpx.DecodingError, match="no gzip"):
        pieces(BODY, "gzip")
    other_sum = PACKED[:-8] + bytes(8)
    assert zlib.crc32(BODY) != 0
    with pytest.raises(httpx.DecodingError, match="no gzip"):
        pieces(other_sum, "gzip")


LARGE = bytes(50_000_000)


@pytest.mark.parametrize(
    ("content", "packing"),
    [
        (gzip.compress(LARGE), "gzip"),
        (gzip.compress(LARGE[:25_000_000]) * 2, "gzip"),
        (zlib.compress(LARGE), "deflate"),
        (zlib.compress(LARGE)[2:-4], "deflate"),
        (zlib.compress(bytes(1 << 20))[2:-4], "deflate"),
    ],
    ids=["gzip", "two members", "zlib", "raw", "raw, to the brim"],
)
def test_a_small_body_never_becomes_a_large_one_at_a_stroke(content: bytes, packing: str) -> None:
    found = pieces(content, packing, size=1_000_000)
    assert sum(map(len, found)) in {len(LARGE), 1 << 20}
    assert max(map(len, found)) <= 1 << 20
