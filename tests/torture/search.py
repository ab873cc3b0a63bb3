"""Looking for a text in all that a program has left behind, however it is written down.

Belongs here: what a file says, compressed or not, and the forms in which a secret may hide.
"""

from __future__ import annotations

import codecs
import gzip
import json
import sqlite3
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from html import escape as html_escape
from pathlib import Path
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape
from zipfile import ZipFile

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq


def disguises(secret: str) -> set[bytes]:
    """The secret as it is, and as URLs, JSON, XML, SQL, Python, hex and base64 write it."""
    plain = secret.encode()
    forms = {plain, plain.hex().encode(), repr(secret)[1:-1].encode(), repr(plain)[2:-1].encode()}
    forms |= {form(secret, safe="").encode() for form in (quote, quote_plus)}
    forms |= {json.dumps(secret, ensure_ascii=ascii).encode()[1:-1] for ascii in (True, False)}
    forms |= {form.encode() for form in (escape(secret), html_escape(secret))}
    forms |= {secret.replace(mark, mark * 2).encode() for mark in "'\""}
    for before in range(3):  # base64 differs by where in the whole the secret begins
        encoded = b64encode(b"\0" * before + plain).rstrip(b"=")
        inner = encoded[4 if before else 0 : -2]
        forms |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def finds(texts: Iterable[bytes], secret: str) -> bool:
    """Whether any of the texts holds the secret in any form."""
    forms = disguises(secret)
    return any(form in text for text in texts for form in forms)


def everything(folder: Path) -> dict[str, list[bytes]]:
    """All that is below a folder, by its path in it: the path itself, and what a file says."""
    there = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name: [name.encode(), *(said(path) if path.is_file() else ())]
        for name, path in there.items()
    }


def without(there: Mapping[str, Iterable[bytes]], *others: str) -> dict[str, list[bytes]]:
    """The same without other texts, of which the secret may be a part."""
    forms = sorted((form for other in others for form in disguises(other)), key=len, reverse=True)

    def stripped(text: bytes) -> bytes:
        for form in forms:
            text = text.replace(form, b"")
        return text

    return {name: [stripped(text) for text in texts] for name, texts in there.items()}


def places(there: Mapping[str, Iterable[bytes]], secret: str) -> list[str]:
    """The paths, of `everything`, of what holds the secret or is named by it."""
    return [name for name, texts in there.items() if finds(texts, secret)]


def said(path: Path) -> Iterator[bytes]:  # noqa: PLR0912 - a branch a kind of file
    """A file's bytes, and what they say once they are unpacked."""
    content = path.read_bytes()
    yield content
    if content.startswith(b"PAR1"):
        with pq.ParquetFile(path) as file:
            yield str(file.metadata.metadata).encode()
            yield str(file.metadata.to_dict()).encode()
            yield _words(file.read())
    elif content[8:12] == b"DUCK":
        with closing(duckdb.connect(str(path), read_only=True)) as con:
            yield str(
                con.execute("SELECT comment, column_name FROM duckdb_columns()").fetchall()
            ).encode()
            yield str(con.execute("SELECT comment, sql FROM duckdb_tables()").fetchall()).encode()
            yield str(con.execute("SELECT comment, sql FROM duckdb_views()").fetchall()).encode()
            tables = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            for (name,) in tables:
                yield _words(con.sql(f'FROM "{name}"').to_arrow_table())
    elif content.startswith(b"PK\x03\x04"):
        with ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
    elif content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif content.startswith(codecs.BOM_UTF16_LE):
        yield content.decode("utf-16").encode()
    elif content.startswith(b"Obj\x01"):  # Avro: pyiceberg is there where such files are
        from pyiceberg.avro.file import AvroFile
        from pyiceberg.io.pyarrow import PyArrowFileIO
        from pyiceberg.typedef import Record

        opened: AvroFile[Record] = AvroFile(PyArrowFileIO().new_input(str(path)))
        with opened as records:
            yield str([*records]).encode()
    elif content.startswith(b"ARROW1"):
        with pa.ipc.open_file(path) as file:
            yield _words(file.read_all())
    elif content.startswith(b"SQLite format 3\0"):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as con:
            tables = con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                for row in con.execute(f'SELECT * FROM "{name}"'):
                    for value in row:
                        yield value if isinstance(value, bytes) else str(value).encode()


def _words(table: pa.Table) -> bytes:
    """All values of a table, texts as they are."""
    return "\n".join(
        str(value) for column in table.columns for value in column.to_pylist() if value is not None
    ).encode()
