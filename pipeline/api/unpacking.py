"""Bodies as they come off the wire, unpacked within bounds.

Belongs here: which packings are taken, and that a small body never becomes a large one at a stroke.
Does not belong here: how large a body may be (`pipeline.api.client`).

httpx unpacks every layer that a server claims, each chunk whole: a few kilobytes packed twice would
take gigabytes before anybody could look at them.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final

import httpx

_PIECE: Final = 1 << 20
"""Bytes that are unpacked at once."""
_GZIP: Final = 16 + zlib.MAX_WBITS


async def unpacked(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body in pieces. httpx.DecodingError where it is packed in another way than was asked for,
    or is no whole gzip."""
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing in {"", "identity"}:
        async for chunk in _wire(response):
            yield chunk
        return
    if packing != "gzip":
        raise httpx.DecodingError("a body that is packed in a way that was not asked for")
    gzip = zlib.decompressobj(_GZIP)
    try:
        async for chunk in _wire(response):
            left = chunk
            while left:
                yield gzip.decompress(left, _PIECE)
                left = gzip.unconsumed_tail
    except zlib.error as error:
        raise httpx.DecodingError(f"a body that is no gzip: {error}") from None
    if not gzip.eof:
        raise httpx.DecodingError("a gzip body that ends too soon")


def _wire(response: httpx.Response) -> httpx.AsyncByteStream:
    """The bytes as they come."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("an answer to an async client has an async stream")
    return response.stream
