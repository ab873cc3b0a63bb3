"""What people write themselves is read for what it says of the person, and searched by lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.forget import person_of
from pipeline.forget.search import Searched
from pipeline.forget.written import names_of, real_ids
from pipeline.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))
NAMES = "kind;id;name;team\nuser;käthe;Käthe Kruse;\nuser;bob;Bob;\nkey;key_web;käthe 2;\n"


@pytest.fixture(params=["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def names(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of names as spreadsheets save it."""
    path = tmp_path / "names.csv"
    path.write_text(NAMES, encoding=request.param)
    return path


def test_the_lines_that_name_them_are_found_in_every_encoding(names: Path) -> None:
    searched = Searched()
    searched.read_file(names, person_of("käthe", None))
    assert searched.found == {str(names): [2, 4]}
    others = Searched()
    others.read_file(names, person_of("kä", None))
    assert others.found == {}


def test_it_is_said_what_they_are_called_where_no_word_says_so(names: Path) -> None:
    assert names_of(person_of("käthe", None), names) == ["Käthe Kruse"]
    assert names_of(person_of("käthe", None, ["Käthe Kruse"]), names) == []
    assert names_of(person_of("nobody", None), names) == []
    names.write_text("no,names\n", encoding="utf-8")
    assert names_of(person_of("käthe", None), names) == []


def test_a_pseudonym_leads_to_the_real_id_that_people_write(names: Path, tmp_path: Path) -> None:
    stored = PSEUDONYMS.of("käthe")
    written = [tmp_path / "budgets.csv", names]
    assert real_ids(stored, PSEUDONYMS, written) == ["käthe"]
    assert real_ids("käthe", PSEUDONYMS, written) == []
    assert real_ids(stored, None, written) == []
