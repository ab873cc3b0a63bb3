"""Teams and names in buckets, by the command and over HTTP: only where they are asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.api.usage import PATH
from pipeline.query.page import RESULT
from pipeline.settings import load_settings
from tests.fixtures_local import clean_environment, command
from tests.named import write_names
from tests.names.people import SPENT, team
from tests.pricing.spent import START
from tests.serve.asking import client, serving

ASKED = ["buckets", "--start", "2024-03-30", "--end", "2024-04-01", "--width", "1mo", "--partial"]
WINDOW: dict[str, Any] = {"start_time": START, "end_time": START + 86_400, "bucket_width": "1d"}


def results(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [result for bucket in page["data"] for result in bucket["results"]]


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("tz", ["UTC", "Asia/Kathmandu"])
def test_buckets_by_team_have_the_sums_of_users_and_keys(tz: str) -> None:
    page = json.loads(command([*ASKED, "--group-by", "team_id", "--tz", tz]).text)
    wanted = Counter[str | None]()
    for spent in SPENT:
        wanted[team(spent)] += spent.operations
    found = Counter[str | None]()
    for one in results(page):
        found[one["team_id"]] += one["num_operations"]
        assert (one["user_id"], one["api_key_id"]) == (None, None)
        assert "team_name" not in one
    assert found == wanted


@pytest.mark.usefixtures("_environment")
def test_names_stand_beside_ids_where_they_are_asked_for() -> None:
    groups = ["--group-by", "user_id", "--group-by", "team_id"]
    page = json.loads(command([*ASKED, *groups, "--names"]).text)
    found = {
        (it["user_id"], it["user_name"], it["team_id"], it["team_name"]) for it in results(page)
    }
    assert found == {
        (None, None, None, None),
        ("bob", "Ada Lovelace", None, None),
        ("eve", "bob", None, None),
        ("ada", "Ada Lovelace", "research", "Research"),
        ("carl", None, "sales", None),
        (None, None, "shop", "Research"),
        ("bob", "Ada Lovelace", "shop", "Research"),
    }
    plain = json.loads(command([*ASKED, "--group-by", "user_id"]).text)
    assert {*results(plain)[0]} == {
        *("object", "num_conversations_created", "num_items_added", "num_operations"),
        *("user_id", "api_key_id"),
    }


@pytest.fixture
def http(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[httpx.Client, Path]]:
    """A client of a server over the home, and the file of names, which a test may change."""
    path = write_names(tmp_path, "user,ada,Ada,research", "key,web,Web,", "team,research,R,")
    monkeypatch.setenv("MKA1_USAGE_NAMES", str(path))
    assert load_settings(home=home).names == path
    with serving(home) as server, client(server.url) as asking:
        yield asking, path


def test_the_server_answers_by_team_and_with_names_and_sees_a_changed_file(
    http: tuple[httpx.Client, Path], tmp_path: Path
) -> None:
    asking, path = http
    asked: dict[str, Any] = {**WINDOW, "group_by": ["team_id"], "names": "true"}
    first = results(asking.get(PATH, params=asked).json())
    assert [(it["team_id"], it["team_name"], it["num_operations"]) for it in first] == [
        (None, None, 126),
        ("research", "R", 1),
    ]
    write_names(tmp_path, "user,carl,Carl,research", "team,research,Research,")
    then = results(asking.get(PATH, params=asked).json())
    assert [(it["team_id"], it["team_name"], it["num_operations"]) for it in then] == [
        (None, None, 119),
        ("research", "Research", 8),
    ]
    path.write_text("kind,id\n", encoding="utf-8")
    wrong = asking.get(PATH, params=asked)
    assert wrong.status_code == 500
    assert wrong.json() == {
        "error": "the names cannot be read: `mka1-usage names check` says what is wrong"
    }
    plain = asking.get(PATH, params={**WINDOW, "group_by": ["user_id"]})
    assert plain.status_code == 200, "what needs no names is answered"
    assert {it["object"] for it in results(plain.json())} == {RESULT}
    refused = asking.get(PATH, params={**WINDOW, "names": "yes"})
    assert refused.json() == {"error": "names must be true or false, not 'yes'"}
