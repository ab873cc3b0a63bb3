"""`names.csv`: what is taken from it, as spreadsheets save it, and which line is complained of."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.lake.store import Lake
from pipeline.names import file as names_file
from pipeline.names.file import Named, Names, NamesOfNow, read_names
from pipeline.pricing.budgets import read_budgets
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import read_prices
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import load_settings
from tests.named import names as of_people
from tests.named import write_names

TEXT = (
    "kind,id,name,team\r\n"
    "user,käthe, Käthe Müller ,r&d\r\n"
    'user,"o""brien","O\'Brien, Pat",\r\n'
    ",,,\r\n"
    "user,zoë,,r&d\r\n"
    "key,key_web,Web shop – EU,shop\r\n"
    "team,r&d,Research €,\r\n"
    "cost_centre,shop,Shop,\r\n"
)
READ = (
    Named(2, "user", "käthe", "Käthe Müller", "r&d"),
    Named(3, "user", 'o"brien', "O'Brien, Pat", ""),
    Named(5, "user", "zoë", "", "r&d"),
    Named(6, "key", "key_web", "Web shop – EU", "shop"),
    Named(7, "team", "r&d", "Research €", ""),
    Named(8, "cost_centre", "shop", "Shop", ""),
)
SEMICOLONS = TEXT.replace('"O\'Brien, Pat"', "\0").replace(",", ";").replace("\0", "O'Brien, Pat")
TABS = SEMICOLONS.replace(";", "\t")


@pytest.mark.parametrize("text", [TEXT, SEMICOLONS, TABS], ids=["commas", "semicolons", "tabs"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_names_are_read_as_spreadsheets_save_them(
    tmp_path: Path, text: str, end: str, encoding: str
) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(text.replace("\r\n", end).encode(encoding))
    assert tuple(read_names(path).rows) == READ


def test_a_line_that_names_the_separator_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text(f"sep=;\r\n{SEMICOLONS}user;;x;\r\n", encoding="utf-8", newline="")
    with pytest.raises(HandWrittenError, match="line 10, column id: it is empty"):
        read_names(path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("Team 👩\u200d🔬", "Team 👩\u200d🔬"),
        ("Ada\u00a0Lovelace\u00a0", "Ada Lovelace"),
    ],
    ids=["joiner of Persian", "joiner of emoji", "spaces that do not break"],
)
def test_names_are_written_as_their_scripts_write_them(
    tmp_path: Path, written: str, read: str
) -> None:
    path = tmp_path / "names.csv"
    path.write_text(f"kind,id,name\nuser,ada,{written}\n", encoding="utf-8")
    assert [row.name for row in read_names(path).rows] == [read]


def test_prices_and_budgets_are_read_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(
        "model;valid_from;currency;input;output\nä;2024-01-01;usd;2.5;1".encode("cp1252")
    )
    prices = read_prices(path)
    assert prices.models == ["ä"]
    path = tmp_path / "budgets.csv"
    path.write_bytes(
        "scope\tid\tperiod\tmeasure\tamount\nuser\tkäthe\tday\ttokens\t5".encode("utf-16")
    )
    assert [it.id for it in read_budgets(path, prices)] == ["käthe"]
    path.write_text("scope;id;period;measure;amount\nall;;day;cost;2,50\n", encoding="utf-8")
    with pytest.raises(
        HandWrittenError, match=r"amount is '2,50': write a plain decimal number such as 2\.50"
    ):
        read_budgets(path, prices)


def test_a_file_of_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("kind,id,name\napi_key,key_web,Web shop\nuser,a,A\n", encoding="utf-8")
    names = read_names(path)
    assert (names.users, names.keys, names.has_teams) == (
        {"a": "A"},
        {"key_web": "Web shop"},
        False,
    )


def test_without_a_file_there_are_no_names(tmp_path: Path) -> None:
    assert read_names(tmp_path / "none.csv") == Names()
    with pytest.raises(HandWrittenError, match=r"none\.csv cannot be read: No such file"):
        read_names(tmp_path / "none.csv", needed=True)


HEADER = b"kind,id,name,team\n"
COLUMNS = "the columns are kind, id, name, team, with commas between them"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", f"line 1: there is no header: {COLUMNS}"),
        (b"id,name\nuser_0000,Ada\n", f"line 1: the column kind is missing: {COLUMNS}"),
        (b"kind,id,name,email\n", f"line 1: number 4 is no column: {COLUMNS}"),
        (
            HEADER + b"user,a,A,\nperson,b,B,\n",
            "line 3, column kind: write user, key, team or cost_centre",
        ),
        (HEADER + b",a,A,\n", "line 2, column kind: write user, key, team or cost_centre"),
        (HEADER + b"user,,A,\n", "line 2, column id: it is empty"),
        (HEADER + b"user,a, ,\n", "line 2, column name: neither name nor team is given"),
        (HEADER + b"team,a,,\n", "line 2, column name: the name is empty"),
        (HEADER + b"team,a,A,b\n", "line 2, column team: leave it empty: a team is in no other"),
        (HEADER + b"user,a,A\n", "line 2: it has 3 columns, and the header has 4"),
        (HEADER + b"user,a,Lovelace, Ada,\n", "line 2: it has 5 columns"),
        (HEADER + b"\n\nuser,a,A,\nuser,a,B,\n", "line 5, column id: this user stands in line 4"),
        (HEADER + b"team,a,A,\ncost_centre,a,A,\n", "line 2 already as a team"),
        (HEADER + b"key,a,A,\napi_key,a,A,\n", "line 3, column id: this key stands in line 2"),
        (
            HEADER + b'user,a,"A,\nuser,b,B,\n',
            "line 2: a quotation mark begins a text that does not end",
        ),
        (HEADER.strip() + b",,\nuser,a,A,,,\n", "line 1: column 5 has no name: delete it"),
        (b"PK\x03\x04\x14\0\x06\0", "it seems to be an Excel workbook: save it as CSV UTF-8"),
        (HEADER + "user,a\u200bb,A,\n".encode(), "line 2, column id: it holds characters that can"),
        (HEADER + b"user,a\x81,A,\n", "line 2: it is not Windows-1252 text: save it as CSV UTF-8"),
        (HEADER + "user,ä,A,\n".encode() + b"user,\xe4,A,\n", "line 3: it is not UTF-8 text"),
        (codecs.BOM_UTF8 + HEADER + b"user,\xe4,A,\n", "line 2: it is not UTF-8 text"),
        (HEADER.decode().encode("utf-16-le"), "UTF-16 text without a byte order mark"),
        (HEADER.decode().encode("utf-16")[:-1], "it is not UTF-16 text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(content)
    with pytest.raises(HandWrittenError) as raised:
        read_names(path)
    assert complaint in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        "a.real,kind,id\n",
        "kind,id,name,team\na.real,user,A,\n",
        "kind,id,name,team\nuser,a.real,A,\nuser,a.real,A,\n",
        "kind,id,name,team\nuser,a.real,,\n",
        "kind,id,name,team\nuser,a.real,A\n",
        'kind,id,name,team\nuser,a.real,"A\n',
        "kind,id,name,team\nuser,a.real\u200b,A,\n",
        "kind,id,name,team\nteam,t,T,a.real\n",
    ],
)
def test_no_complaint_quotes_an_id(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(HandWrittenError) as raised:
        read_names(path)
    assert "a.real" not in str(raised.value)


def test_under_pseudonyms_teams_count_and_names_of_users_are_left_out() -> None:
    pseudonyms = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))
    names = Names(READ)
    hidden = names.under(pseudonyms)
    assert (hidden.users, hidden.withheld) == ({}, 2)
    assert (hidden.keys, hidden.teams) == (names.keys, names.teams)
    assert {row.id: row.team for row in hidden.rows if row.kind == "user"} == {
        pseudonyms.of("käthe"): "r&d",
        pseudonyms.of("zoë"): "r&d",
    }
    without_key = names.under(None)
    assert not [row for row in without_key.rows if row.kind == "user"]


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(["a", "b", "x", "x (b)", "x (b) (a)"])),
    st.sets(st.sampled_from("abcd")),
)
def test_no_two_ids_have_the_same_label(users: dict[str, str], ids: set[str]) -> None:
    called = of_people(users=users)
    every = called.labels("user", "abcd")
    assert len({*every.values()}) == len(every) == 4
    for id_, name in users.items():
        assert re.fullmatch(rf"{re.escape(name)}( \({id_}\))?", every[id_])
    # Names of others count, also where they are not asked for.
    assert called.labels("user", ids).items() <= called.labels("user", {*users, *ids}).items()


def test_a_server_reads_the_file_again_when_it_has_changed_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a million lines takes seconds, and each page asks for names."""
    times: list[Path] = []

    def counted(path: Path, *, needed: bool = False) -> Names:
        times.append(path)
        return read_names(path, needed=needed)

    monkeypatch.setattr(names_file, "read_names", counted)
    settings = load_settings(home=tmp_path)
    now = NamesOfNow(settings, Lake(settings.lake))
    assert [now().users, now().users, len(times)] == [{}, {}, 1]
    for number, name in enumerate(["Ada", "Ada L.", "Ada Lovelace"], 2):
        before = now.version
        write_names(tmp_path, f"user,u1,{name},")
        assert now.version != before
        assert [now().users, now().users, len(times)] == [{"u1": name}] * 2 + [number]
    (tmp_path / "names.csv").write_text("kind,id,name\nperson,x,y\n")
    for _ in range(2):  # what is wrong stays wrong
        with pytest.raises(HandWrittenError, match="line 2, column kind"):
            now()
