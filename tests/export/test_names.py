"""The CSV of names: what is taken from it, and which line is complained of."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import pytest

from pipeline.export.names import Names, NamesError, read_names

HEADER = b"kind,id,name\n"


@pytest.mark.parametrize("before", [b"", codecs.BOM_UTF8], ids=["plain", "from Excel"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_names_are_read_by_kind(tmp_path: Path, before: bytes, end: bytes) -> None:
    path = tmp_path / "names.csv"
    lines = [
        b"kind,id,name",
        "user,käthe, Käthe Müller ".encode(),
        b'user,"o""brien, ""pat""","O\'Brien, Pat"',
        b"",
        b"api_key,key_web,Web shop",
        b"user, spaced ,Spaced",
        b"api_key,key_web,Web shop",
    ]
    path.write_bytes(before + end.join(lines))
    assert read_names(path) == Names(
        {"käthe": "Käthe Müller", 'o"brien, "pat"': "O'Brien, Pat", " spaced ": "Spaced"},
        {"key_web": "Web shop"},
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "line 1: it must be kind,id,name"),
        (b"id,name\nuser_0000,Ada\n", "line 1: it must be kind,id,name"),
        (b"kind;id;name\nuser;a;b\n", "line 1: it must be kind,id,name"),
        (HEADER + b"user,a,A\nteam,b,B\n", "line 3: kind is 'team', and must be user or api_key"),
        (HEADER + b"user,,A\n", "line 2: the id is empty"),
        (HEADER + b"user,a, \n", "line 2: 'a' has no name"),
        (HEADER + b"user,a\n", "line 2: it has 2 columns"),
        (HEADER + b"user,a,Lovelace, Ada\n", "line 2: it has 4 columns"),
        (HEADER + b"\n\nuser,a,A\nuser,a,B\n", "line 5: 'a' has the name 'A' already"),
        (HEADER + b'user,a,"A\n', "line 2: unexpected end of data"),
        (HEADER + "user,a,Käthe\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    with pytest.raises(NamesError, match=re.escape(complaint)) as raised:
        read_names(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
