"""The texts of an Avro file: the lists of files of a shared lake are such, and have ids as bounds.

Belongs here: the format, as the specification of Avro 1.11 has it. A search must not take the
length of a text, which stands before it, for a part of it.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16
_SIZES: Final = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_DEFLATE: Final = -15
"""zlib's word for deflate without a header."""


def texts(path: Path) -> Iterator[str]:
    """Each text and each value of bytes of a file, and what it says of itself.

    ValueError, zlib.error, EOFError where it is no such file, or has another codec than those that
    every reader has.
    """
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        notes = dict(_notes(file))
        for key, value in notes.items():
            yield from (key, _text(value))
        codec = _text(notes.get("avro.codec", b"null"))
        if codec not in ("null", "deflate"):
            raise ValueError(f"its codec is {codec}")
        schema = json.loads(notes["avro.schema"])
        named: dict[str, Any] = {}
        _name(schema, named)
        file.seek(_SYNC, os.SEEK_CUR)
        while rows := _long(file):
            block = _bytes(file)
            values = io.BytesIO(zlib.decompress(block, _DEFLATE) if codec == "deflate" else block)
            for _ in range(rows):
                yield from _values(schema, named, values)
            file.seek(_SYNC, os.SEEK_CUR)


def _notes(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    for _ in _items(file):
        yield _text(_bytes(file)), _bytes(file)


def _values(schema: Any, named: dict[str, Any], file: BinaryIO) -> Iterator[str]:
    if isinstance(schema, list):
        yield from _values(schema[_long(file)], named, file)
        return
    kind = schema["type"] if isinstance(schema, dict) else named.get(schema, schema)
    if isinstance(kind, dict | list):
        yield from _values(kind, named, file)
    elif kind in ("string", "bytes"):
        yield _text(_bytes(file))
    elif kind in ("int", "long", "enum"):
        _long(file)
    elif kind == "record":
        for one in schema["fields"]:
            yield from _values(one["type"], named, file)
    elif kind in ("array", "map"):
        for _ in _items(file):
            if kind == "map":
                yield _text(_bytes(file))
            yield from _values(schema["items" if kind == "array" else "values"], named, file)
    elif kind == "fixed":
        yield _text(_exactly(file, schema["size"]))
    elif kind in _SIZES:
        _exactly(file, _SIZES[kind])
    else:
        raise ValueError(f"its schema has the type {kind!r}")


def _name(schema: Any, named: dict[str, Any]) -> None:
    """Note the types that a schema refers to by their names."""
    if isinstance(schema, list):
        for one in schema:
            _name(one, named)
    elif isinstance(schema, dict):
        if schema.get("type") in ("record", "fixed", "enum"):
            named[schema["name"]] = schema
        for part in ("type", "items", "values"):
            _name(schema.get(part), named)
        for one in schema.get("fields", ()):
            _name(one["type"], named)


def _items(file: BinaryIO) -> Iterator[None]:
    """Once for each item of an array or a map, which come in blocks."""
    while number := _long(file):
        if number < 0:
            _long(file)  # how many bytes the block has
        for _ in range(abs(number)):
            yield


def _long(file: BinaryIO) -> int:
    """A number of variable length; 0 at the end of the file."""
    value = shift = 0
    while byte := file.read(1):
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            break
        shift += 7
    return (value >> 1) ^ -(value & 1)


def _bytes(file: BinaryIO) -> bytes:
    return _exactly(file, _long(file))


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise EOFError("it ends too early")
    return found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
