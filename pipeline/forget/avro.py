"""The texts of an Avro file: the lists of files of a shared lake are such, and have ids as bounds.

Belongs here: which values are texts. A search of the bytes would take the length of a text, which
stands before it, for a part of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

MAGIC: Final = b"Obj\x01"


def texts(path: Path) -> Iterator[str]:
    """Each text and each value of bytes of a file, and what it says of itself.

    ImportError without the extra `shared`; ValueError, EOFError, LookupError or zlib.error where it
    is no such file.
    """
    import fastavro  # noqa: PLC0415 (in the extra `shared`)
    from fastavro.schema import SchemaParseException, UnknownType  # noqa: PLC0415

    with path.open("rb") as file:
        try:
            rows = fastavro.reader(file)
            yield from _texts(rows.metadata)
            for row in rows:
                yield from _texts(row)
        except (SchemaParseException, UnknownType, struct.error) as error:
            raise ValueError(str(error)) from None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
