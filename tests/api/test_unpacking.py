"""Bodies are unpacked to their end, as they were asked for, and never at a stroke."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from pipeline.api.unpacking import unpacked

BODY = b'{"data": []}' * 1_000
PACKED = gzip.compress(BODY, mtime=0)


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
        return [piece async for piece in unpacked(response)]

    return asyncio.run(read())


@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize(
    ("content", "packing"),
    [(BODY, None), (BODY, "identity"), (PACKED, "gzip"), (PACKED, " GZIP ")],
)
def test_a_body_comes_out_as_it_was_put_in(content: bytes, packing: str | None, size: int) -> None:
    assert b"".join(pieces(content, packing, size)) == BODY


@pytest.mark.parametrize("length", range(0, len(PACKED), 5))
def test_a_packed_body_that_ends_too_soon_is_refused_wherever_it_ends(length: int) -> None:
    with pytest.raises(httpx.DecodingError, match="ends too soon"):
        pieces(PACKED[:length], "gzip")


@pytest.mark.parametrize("packing", ["gzip, gzip", "br", "deflate", "gzip,identity", "x"])
def test_a_packing_that_was_not_asked_for_is_refused(packing: str) -> None:
    with pytest.raises(httpx.DecodingError, match="was not asked for"):
        pieces(gzip.compress(PACKED), packing)


def test_what_is_no_gzip_or_does_not_add_up_is_refused() -> None:
    with pytest.raises(httpx.DecodingError, match="no gzip"):
        pieces(BODY, "gzip")
    other_sum = PACKED[:-8] + bytes(8)
    assert zlib.crc32(BODY) != 0
    with pytest.raises(httpx.DecodingError, match="no gzip"):
        pieces(other_sum, "gzip")


def test_a_small_body_never_becomes_a_large_one_at_a_stroke() -> None:
    found = pieces(gzip.compress(bytes(50_000_000)), "gzip", size=1_000_000)
    assert sum(map(len, found)) == 50_000_000
    assert max(map(len, found)) <= 1 << 20
