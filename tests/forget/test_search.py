"""The search sees into files, however they are packed: a backup in the home is no hiding place."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
