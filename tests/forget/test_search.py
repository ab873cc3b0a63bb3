"""The search sees into files, however they are packed: a backup in the home is no hiding place."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sqlite3
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.forget import search
from pipeline.forget.person import Person, person_of
from pipeline.forget.search import Searched

WHO = "ada"
PERSON = person_of(WHO, None)


def parquet_of(user: str) -> bytes:
    """A file whose bytes show no id: it is short, and stands in packed pages."""
    content = io.BytesIO()
    pq.write_table(pa.table({"user_id": [user] * 3}), content, compression="zstd")
    return content.getvalue()


def _arrow(codec: str) -> Callable[[bytes], bytes]:
    def packed(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return bytes(sink.getvalue())

    return packed


def _zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", content)
    return out.getvalue()


def _tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("inner")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "zip": _zip,
    "tar": _tar,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": _arrow("zstd"),
    "LZ4": _arrow("lz4"),
}


def searched(path: Path, person: Person = PERSON) -> Searched:
    found = Searched()
    found.read_file(path, person)
    return found


INNER: dict[str, Callable[[str], bytes]] = {
    "text": lambda user: f"user {user} wrote".encode(),
    "Parquet": parquet_of,
    "tar": lambda user: _tar(parquet_of(user)),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("inner", INNER)
def test_what_is_packed_is_seen(kind: str, inner: str, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    for user, names in ((WHO, True), ("adam", False)):
        path.write_bytes(PACKED[kind](INNER[inner](user)))
        found = searched(path)
        assert (bool(found.found), found.unread, found.kinds) == (names, {}, {kind: 1})


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_packed_and_damaged_is_no_proof(kind: str, tmp_path: Path) -> None:
    content = PACKED[kind](bytes(range(256)) * 100)
    path = tmp_path / "backup"
    path.write_bytes(content[: len(content) // 2])
    assert list(searched(path).unread) == [str(path)]


def test_a_damaged_page_is_no_proof_and_does_not_end_the_process(tmp_path: Path) -> None:
    """Arrow trusts what it reads: where a text says that it ends, it looks."""
    table, path = pa.table({"user_id": ["bob", "eve"]}), tmp_path / "0-60.rows.arrow"
    with pa.ipc.new_file(path, table.schema) as sink:
        sink.write_table(table)
    offsets = [number.to_bytes(4, "little") for number in (0, 3, 6)]
    content = path.read_bytes()
    far = (2**31 - 1).to_bytes(4, "little")
    damaged = content.replace(b"".join(offsets), offsets[0] + far + offsets[2])
    assert damaged != content
    path.write_bytes(damaged)
    assert list(searched(path).unread) == [str(path)]


def test_names_in_archives_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "backup.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(f"people/{WHO}"))
    assert list(searched(path).found) == [str(path)]


def test_a_text_that_begins_like_something_packed_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text(f"BZh is what bzip2 begins with, says {WHO}")
    found = searched(path)
    assert (found.kinds, found.found) == ({"text": 1}, {str(path): [1]})


def _parquet(column: str, values: pa.Array) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table({column: values}), path, compression="zstd")


def _arrow_file(path: Path) -> None:
    table = pa.table({WHO: [5, 6]})
    with pa.ipc.new_file(path, table.schema) as sink:
        sink.write_table(table)


def _sqlite(*statements: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with closing(sqlite3.connect(path)) as con:
            for statement in statements:
                con.execute(statement)
            con.commit()

    return write


def _duckdb(*statements: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with closing(duckdb.connect(path)) as con:
            for statement in statements:
                con.execute(statement)

    return write


UUID = "550e8400-e29b-41d4-a716-446655440000"
VALUES: dict[str, Callable[[Path], None]] = {
    "a column's name": _parquet(WHO, pa.array([5])),
    "a column's name in Arrow": _arrow_file,
    "text that is viewed": _parquet("x", pa.array([WHO], pa.string_view())),
    "JSON": _parquet("x", pa.array([f'{{"of": "{WHO}"}}'], pa.json_())),
    "bytes": _parquet("x", pa.array([WHO.encode()], pa.large_binary())),
    "bytes of one size": _parquet("x", pa.array([WHO.encode()], pa.binary(3))),
    "a view of SQLite": _sqlite(f"CREATE VIEW theirs AS SELECT 1 AS one WHERE 'x' = '{WHO}'"),
    "a table of SQLite": _sqlite(
        'CREATE TABLE "7"" x" (x)', f"""INSERT INTO "7"" x" VALUES ('{WHO}')"""
    ),
    "a macro of DuckDB": _duckdb(f"CREATE MACRO theirs() AS 'user = {WHO}'"),
    "a table of DuckDB": _duckdb(f"""CREATE TABLE "7"" x" AS SELECT '{WHO}' AS x"""),
}
"""Where a value or a name can stand, beside a column of texts."""


@pytest.mark.parametrize("write", VALUES.values(), ids=VALUES)
def test_each_value_and_name_of_a_file_is_looked_at(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "theirs"
    write(path)
    found = searched(path)
    assert (list(found.found), found.unread) == ([str(path)], {})


def test_a_user_id_that_is_a_uuid_is_seen_as_one(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    _parquet("x", pa.array([uuid.UUID(UUID).bytes], pa.uuid()))(path)
    assert list(searched(path, person_of(UUID, None)).found) == [str(path)]


@pytest.mark.parametrize("bits", [(1, 0), (0, 9)], ids=["password", "method"])
def test_a_zip_that_can_not_be_unpacked_is_no_proof(bits: tuple[int, int], tmp_path: Path) -> None:
    content = bytearray(_zip(b"said"))
    for header in (6, content.index(b"PK\1\2") + 8):
        content[header] |= bits[0]
        content[header + 2] |= bits[1]
    path = tmp_path / "backup.zip"
    path.write_bytes(content)
    assert list(searched(path).unread) == [str(path)]


def test_a_folder_that_can_not_be_looked_into_is_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the command need not be who has written it."""
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    found = Searched()
    found.read_folders([tmp_path, tmp_path / "none"], PERSON)
    assert found.unread == {str(closed): "Permission denied"}


def test_each_name_of_a_file_is_looked_at(tmp_path: Path) -> None:
    """A file can have several, and is read once."""
    (tmp_path / "1.txt").write_text("nobody")
    (tmp_path / f"{WHO}.txt").hardlink_to(tmp_path / "1.txt")
    found = Searched()
    found.read_folders([tmp_path], PERSON)
    assert (found.files, list(found.found)) == (1, [str(tmp_path / f"{WHO}.txt")])


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("call ada.lovelace today", True),
        ("call ada.lovelace@example.com today", False),
        ("call x-ada.lovelace today", False),
    ],
)
def test_a_large_file_is_searched_as_if_it_were_read_at_once(
    line: str, names: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the chunks begin in which it is read."""
    monkeypatch.setattr(search, "_CHUNK", 8192)
    path, person = tmp_path / "notes", person_of("ada.lovelace", None)
    for before in range(8192 - len(line) - 1, 8192 + 8192 // 2 + 2):
        if before < 8194 or before % 61 == 0:
            path.write_bytes(b"\0" * before + f" {line} ".encode() + b"\0" * 9000)
            assert bool(searched(path, person).found) == names, before


def test_a_log_that_was_cut_while_it_was_written_to_is_text(tmp_path: Path) -> None:
    """What was cut off stands there as zeros; other files with zeros can hold a short id by
    chance."""
    path = tmp_path / "server.log"
    for before, names in ((b"", True), (b"\xff", False)):
        path.write_bytes(before + b"\0" * 5000 + f"\nuser {WHO}\n".encode())
        assert bool(searched(path).found) == names
