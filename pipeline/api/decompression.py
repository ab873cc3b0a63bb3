"""Bodies as they come off the wire, decompressed within bounds.

gzip alone is asked for. Read as well is what servers send all the same and RFC 9110 (8.4.1) allows:
`x-gzip`, gzip of several members, `deflate` (the zlib format, and raw), and `identity` anywhere in
the list. One coding at a time, and piece by piece: httpx decompresses every layer that a server
claims, each chunk whole, so a few kilobytes packed twice would take gigabytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpx

from pipeline.api.errors import UnknownCoding

_PIECE: Final = 1 << 20
"""Bytes that are unpacked at once."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_MEMBER: Final = b"\x1f\x8b"
"""What a member of a gzip file begins with (RFC 1952)."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,19}")


async def decompressed(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body in pieces.

    UnknownCoding where it is packed in a way that is not read; the message begins with "a body".
    httpx.DecodingError where it ends too soon, or is not what it is said to be. What follows a
    whole gzip member and is no member itself is left out, as gzip(1) does: it is padding, or what
    is missing shows in the JSON.
    """
    match _codings(response):
        case []:
            async for chunk in _wire(response):
                yield chunk
        case ["gzip" | "x-gzip"]:
            async for piece in _decompressed(response, _gzip, "gzip"):
                yield piece
        case ["deflate"]:
            async for piece in _decompressed(response, _deflate, "deflate"):
                yield piece
        case codings:
            named = ", ".join(one if _NAME.fullmatch(one) else "?" for one in codings[:3])
            raise UnknownCoding(f"a body in the content coding {named}, which was not asked for")


def _codings(response: httpx.Response) -> list[str]:
    """What was done to the body, in order."""
    named = response.headers.get("Content-Encoding", "").split(",")
    return [one for one in (one.strip().lower() for one in named) if one not in {"", "identity"}]


def _gzip(_: bytes) -> zlib._Decompress:
    return zlib.decompressobj(_GZIP)


def _deflate(begin: bytes) -> zlib._Decompress:
    # The header of the zlib format (RFC 1950): method 8, a window of 32 kB at most, a check sum.
    first, second = begin[:2]
    zlib_format = first % 16 == 8 and first < 0x80 and (first * 256 + second) % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if zlib_format else -zlib.MAX_WBITS)


async def _decompressed(
    response: httpx.Response, begin: Callable[[bytes], zlib._Decompress], coding: str
) -> AsyncIterator[bytes]:
    left, stream, ended = b"", None, False
    try:
        async for chunk in _wire(response):
            left += chunk
            full = False  # then more may come out without anything going in
            while left or full:
                if stream is None:
                    if len(left) < len(_MEMBER):
                        break
                    if ended and not (coding == "gzip" and left.startswith(_MEMBER)):
                        left = b""
                        continue
                    stream = begin(left)
                piece = stream.decompress(left, _PIECE)
                full = len(piece) == _PIECE
                left = stream.unconsumed_tail
                if stream.eof:
                    left, stream, ended, full = stream.unused_data, None, True, False
                if piece:
                    yield piece
    except zlib.error as error:
        raise httpx.DecodingError(f"a body that is no {coding}: {error}") from None
    if stream is not None or not ended:
        raise httpx.DecodingError(f"a {coding} body that ends too soon")


def _wire(response: httpx.Response) -> httpx.AsyncByteStream:
    """The bytes as they come."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("an answer to an async client has an async stream")
    return response.stream
