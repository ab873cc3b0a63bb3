"""The proof: every file of some folders is read again, and nothing in it names the person.

Belongs here: what a file says, however it is packed. Of Parquet, Arrow, Avro, DuckDB and SQLite
each value is looked at, of zip, tar, gzip, bzip2, xz, zstd and LZ4 what they hold, and the bytes of
every file. A short id is not looked for in the bytes of packed files, where it stands by chance.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.forget import avro
from pipeline.forget.person import Person
from pipeline.forget.values import texts_of
from pipeline.lake.engine import literal, openable

_CHUNK: Final = 1 << 22
_OVERLAP: Final = 1 << 12
"""Bytes that two chunks share, or those of the longest form of an id."""
_AROUND: Final = 64
"""So many bytes before and behind an id say whether it stands by itself."""
_LINES: Final = 5
"""So many lines of a text are named at most."""
_SAID_BY_DUCKDB: Final = (
    *("duckdb_views()", "duckdb_columns()", "duckdb_tables()", "duckdb_functions()"),
    *("duckdb_types()", "duckdb_indexes()", "duckdb_sequences()", "duckdb_schemas()"),
)
"""What DuckDB says of a file beside its rows."""
_PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF")
_FAILS: Final = (
    *(OSError, ImportError, ValueError, LookupError, EOFError, zlib.error, zipfile.BadZipFile),
    *(lzma.LZMAError, tarfile.TarError, RuntimeError),  # as of a zip with a password
    *(pa.ArrowException, duckdb.Error, sqlite3.Error),
)


@dataclass(slots=True)
class Searched:
    """What was looked at. `found` has what names the person, each with the lines that do, where it
    is text; `unread` what could not be read, with the reason. Both by the place, as it is shown."""

    files: int = 0
    bytes: int = 0
    kinds: dict[str, int] = field(default_factory=dict[str, int])
    found: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    unread: dict[str, str] = field(default_factory=dict[str, str])
    _seen: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]], repr=False)

    def read_folders(self, folders: Iterable[Path], person: Person) -> None:
        """Read every file below the folders, each once, links as what they lead to."""

        def closed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                self.unread[str(error.filename)] = str(error.strerror)

        for folder in folders:
            for path in files_below([folder], closed):
                self.read_file(path, person, named=str(path.relative_to(folder)))

    def read_file(
        self, path: Path, person: Person, named: str = "", shown: str | None = None
    ) -> None:
        """Read a file, once; `named`: how it is called in what is searched, which can name them
        too; `shown`: what it is a copy of."""
        place = shown or str(path)
        try:
            found = path.stat()
        except FileNotFoundError:  # removed meanwhile
            return
        except OSError as error:
            self.unread[place] = str(error.strerror)
            return
        if shown is None:
            if (found.st_dev, found.st_ino) in self._seen:
                if _is_called(named, person):  # another name of what was read
                    self.found[place] = []
                return
            self._seen.add((found.st_dev, found.st_ino))
        self.files += 1
        self.bytes += found.st_size
        kind, values = _opened(path)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        try:
            if kind == "text" and (lines := _lines(path, person)):
                self.found[place] = lines
            elif _is_called(named, person) or _names(path, kind, values, person):
                self.found[place] = []
        except FileNotFoundError:
            return
        except _FAILS as error:
            self.unread[place] = " ".join(str(error).split())[:200]

    def note(self, kind: str, found: Iterable[str]) -> None:
        """Note what was found in something that is no file."""
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.found |= {place: [] for place in found}


def _is_called(named: str, person: Person) -> bool:
    """Whether the name of a file names the person, with its ending or without: as `ada.csv`."""
    return person.is_in(named) or person.is_in(named.removesuffix(Path(named).suffix))


def names(path: Path, person: Person) -> bool:
    """Whether a file names the person. Raises what reading it raises."""
    return _names(path, *_opened(path), person)


def files_below(
    folders: Iterable[Path], closed: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Every file below the folders, no link, in order; `closed` gets why a folder can't be read."""
    for folder in folders:
        for root, below, found in os.walk(folder, onerror=closed):
            below.sort()
            for name in sorted(found):
                path = Path(root, name)
                if not path.is_symlink() and path.is_file():
                    yield path


_Values = Callable[[Path], Iterator[str]]


class _Readable(Protocol):
    def read(self, length: int = ..., /) -> bytes: ...


def _names(path: Path, kind: str, values: _Values | None, person: Person) -> bool:
    if values is not None and any(person.is_in(text) for text in values(path)):
        return True
    # Text can begin with zeros, as logs that were cut while they were written to.
    is_text = kind == "text" or (kind == "other" and _encoding(path) == "utf-8")
    return (person.is_unlikely or is_text) and _bytes_name(path, person)


def _bytes_name(path: Path, person: Person) -> bool:
    shared = _AROUND + max(_OVERLAP, *(len(form.encode()) for form in person.forms))
    with path.open("rb") as file:
        before, chunk = b"", file.read(_CHUNK)
        while chunk:
            # What stands around an id decides: what is cut is looked at with the other chunk.
            after = file.read(_CHUNK)
            content = before + chunk
            begin = _AROUND if before else 0
            if person.is_in_bytes(content + after[:_AROUND], begin, len(content)):
                return True
            before, chunk = content[-shared:], after
    return False


def _opened(path: Path) -> tuple[str, _Values | None]:
    """What kind of file it is, and what gives its values, if anything does."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_OVERLAP)
        for place, start, kind, values in _KINDS:
            if head.startswith(start, place):
                return kind, values
        if b"\0" in head:
            return "other", None
    return "text", _of_text


def _of_text(path: Path) -> Iterator[str]:
    """Line by line: a file can be large."""
    with path.open(encoding=_encoding(path), errors="replace") as file:
        yield from file


def _lines(path: Path, person: Person) -> list[int]:
    """The first lines of a text that name the person, counted from 1."""
    named = (number for number, line in enumerate(_of_text(path), 1) if person.is_in(line))
    return list(islice(named, _LINES))


def _encoding(path: Path) -> str:
    """What spreadsheets save: UTF-16 with its mark, UTF-8, or Windows-1252 where that is none."""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
    try:
        with path.open(encoding="utf-8") as text:
            while text.read(_CHUNK):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _of_parquet(path: Path) -> Iterator[str]:
    with pq.ParquetFile(path) as file:
        yield from file.schema_arrow.names
        for note in (file.metadata.metadata or {}).items():
            yield from (part.decode("utf-8", "replace") for part in note)
        for batch in file.iter_batches(1 << 17):
            for column in batch.columns:
                yield from _texts(column)


def _of_arrow(path: Path) -> Iterator[str]:
    with pa.ipc.open_file(path) as file:
        yield from (*file.schema.names, str(file.schema.metadata))
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            batch.validate(full=True)  # a damaged one would end the process
            for column in batch.columns:
                yield from _texts(column)


_NO_TEXT: Final = (pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)


def _texts(column: pa.Array) -> Iterator[str]:
    """The values of a column that can hold text, each once."""
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        yield from (value for value in pc.unique(column).to_pylist() if value is not None)
    elif not any(no_text(column.type) for no_text in _NO_TEXT):
        yield from map(str, column.to_pylist())


def _of_duckdb(path: Path) -> Iterator[str]:
    with openable(path) as readable, closing(duckdb.connect()) as con:
        con.execute(f"ATTACH {literal(str(readable))} AS searched (READ_ONLY)")
        for sql in _SAID_BY_DUCKDB:
            for row in con.execute(f"FROM {sql} WHERE database_name = 'searched'").fetchall():
                yield from map(str, row)
        tables = con.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'searched'"
        ).fetchall()
        for names_of in tables:
            schema, table = map(_quoted, names_of)
            for batch in con.sql(f"FROM searched.{schema}.{table}").to_arrow_reader(1 << 16):
                for column in batch.columns:
                    yield from _texts(column)


def _of_sqlite(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as con:
        con.text_factory = lambda value: value.decode("utf-8", "replace")
        tables = con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for name in ("sqlite_master", *(name for (name,) in tables)):
            for row in con.execute(f"SELECT * FROM {_quoted(name)}"):
                for value in row:
                    yield from texts_of(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _of_zip(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name
            with archive.open(name) as member:
                yield from _of_packed(member)


def _of_tar(path: Path) -> Iterator[str]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            yield from (member.name, member.linkname)
            if member.isfile() and (file := archive.extractfile(member)):
                yield from _of_packed(file)


def _compressed(opened: Callable[[Path], AbstractContextManager[_Readable]]) -> _Values:
    def values(path: Path) -> Iterator[str]:
        with opened(path) as file:
            yield from _of_packed(file)

    return values


def _of_packed(file: _Readable) -> Iterator[str]:
    """What a packed file says, which may be packed itself; as text, whatever it is, too."""
    with tempfile.TemporaryDirectory(prefix="mka1-usage-") as folder:
        path = Path(folder) / "unpacked"
        with path.open("wb") as unpacked:
            shutil.copyfileobj(file, unpacked, _CHUNK)
        _, values = _opened(path)
        if values not in (None, _of_text):
            yield from values(path)
        yield from _of_text(path)


_BZIP2: Final = tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))
_KINDS: Final[tuple[tuple[int, bytes | tuple[bytes, ...], str, _Values | None], ...]] = (
    (0, b"PAR1", "Parquet", _of_parquet),
    (0, b"ARROW1", "Arrow", _of_arrow),
    (0, b"SQLite format 3\0", "SQLite", _of_sqlite),
    (8, b"DUCK", "DuckDB", _of_duckdb),
    (0, avro.MAGIC, "Avro", avro.texts),
    (0, b"PK\x03\x04", "zip", _of_zip),
    (257, b"ustar", "tar", _of_tar),
    (0, b"\x1f\x8b", "gzip", _compressed(gzip.open)),
    (0, _BZIP2, "bzip2", _compressed(bz2.open)),
    (0, b"\xfd7zXZ\0", "xz", _compressed(lzma.open)),
    (0, b"\x28\xb5\x2f\xfd", "zstd", _compressed(partial(pa.input_stream, compression="zstd"))),
    (0, b"\x04\x22\x4d\x18", "LZ4", _compressed(partial(pa.input_stream, compression="lz4"))),
    (0, (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "text", _of_text),
    (0, _PICTURES, "picture", None),
)
"""By what stands where in a file: its kind, and what gives its values."""
