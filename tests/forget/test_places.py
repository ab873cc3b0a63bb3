"""Each place in which an id may come to stand, with ids that texts have to escape.

Who they were is searched for by another search; people whose ids begin with theirs stay.
"""

from __future__ import annotations

import html
import json
import re
import sqlite3
import zipfile
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pytest

from pipeline.alerts.alert import Evaluation, Finding, equals, shown
from pipeline.emulator import EmulatorServer
from pipeline.forget import person_of
from pipeline.notify.changes import changes, message_of
from pipeline.notify.outbox import Outbox, State, Waiting
from pipeline.usage.page_buffer import SERVED_ROWS
from tests.fixtures_local import clean_environment, command
from tests.forget.people import DAYS, MIDNIGHT, new_home, new_world
from tests.serve.asking import ask, client, serving
from tests.torture.search import everything, places, without

ODD = 'o\'brien "7" <&> käthe'
OTHERS = {
    "wide": "漢字;=&%41 ひと",
    "long": "a" * 120 + "+1@example.com",
    "slash": "back\\slash/user_7",
}


def neighbours(who: str) -> tuple[str, ...]:
    """People whose ids begin or end with theirs."""
    return (f"{who}2", f"{who}é", f"{who}@example.com", f"x-{who}")


def left(home: Path, who: str) -> list[str]:
    """The files that name them, and not somebody whose id has theirs in it."""
    return places(without(everything(home), *neighbours(who)), who)


def fill(home: Path, who: str) -> None:
    """All that commands, Dagster and killed processes leave in a home."""
    for kind in ("parquet", "csv", "xlsx", "duckdb"):
        assert command(["export", str(home / kind), "--format", kind]).code == 0
    (home / "report").mkdir()
    (home / "report" / "usage.html").write_text(html.escape(who), encoding="utf-8")
    _messages(home, who)
    _dagster(home / "dagster", who)
    pages = home / "lake" / ".partial" / str(DAYS[0])
    pages.mkdir(parents=True)
    rows = pa.table({"user_id": [who]}).cast(pa.schema([SERVED_ROWS.field("user_id")]))
    with pa.ipc.new_file(pages / "0-60.rows.arrow", rows.schema) as sink:
        sink.write_table(rows)
    killed = home / "lake" / ".staging" / "killed"
    killed.mkdir(parents=True)
    (killed / "names.txt").write_text(who, encoding="utf-8")


def _messages(home: Path, who: str) -> None:
    """What is open and waits to be sent, of them and of a neighbour, as alerts write it."""
    found = [
        Finding(
            *("spike", "warning", repr(user), MIDNIGHT),
            what=f"{shown(user, 'user')}: far above",
            query=f"select * from usage_1h where {equals('user_id', user)}",
        )
        for user in (who, neighbours(who)[0])
    ]
    opened, changed = changes({}, {"spike": Evaluation(found)}, MIDNIGHT)
    outbox = Outbox(home)
    with outbox.held(1.0):
        message = message_of(changed, MIDNIGHT)
        outbox.save(State(open=opened, waiting=[Waiting(message, ("slack",))]))
    content = outbox.path.read_bytes()
    outbox.path.with_name(".state.json-killed").write_bytes(content)


def _dagster(home: Path, who: str) -> None:
    """A run's events, with metadata that is JSON in JSON, and a chart in base64."""
    chart = b64encode(f"<svg><text>{who.replace('&', '&amp;')}</text></svg>".encode()).decode()
    for text in (who, neighbours(who)[2]):
        event = {"say": f"{text}\n{text}", "json": json.dumps({"of": [text]}), "md": f"!({chart})"}
        home.mkdir(exist_ok=True)
        with closing(sqlite3.connect(home / "runs.db")) as con:
            con.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, event TEXT)")
            con.execute("INSERT INTO events (event) VALUES (?)", [json.dumps(event)])
            con.commit()
    address = urlencode({"user_id": who, "tz": "UTC"})
    (home / "access.log").write_text(f'GET /?{address} "{who}"\n', encoding="utf-8")


def write_by_hand(home: Path, who: str) -> list[Path]:
    """Names and budgets as spreadsheets save them, and a note that is packed."""
    quoted = '"' + who.replace('"', '""') + '"'
    names, budgets, notes = home / "names.csv", home / "budgets.csv", home / "notes.zip"
    rows = f"kind;id;name;team\nuser;{neighbours('x')[0]};X;\nuser;{quoted};Somebody;\n"
    names.write_text(rows, encoding="utf-16")
    budgets.write_text(
        f"scope,id,period,measure,amount\nuser,{quoted},day,tokens,5\n",
        encoding="utf-8" if "漢" in who else "cp1252",
    )
    with zipfile.ZipFile(notes, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes/list.json", json.dumps({"who": [who] * 50}))
    return [budgets, names, notes]


@pytest.mark.slow
def test_no_place_keeps_them_and_their_neighbours_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_forgotten(ODD, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
@pytest.mark.parametrize("who", OTHERS.values(), ids=OTHERS)
def test_so_it_is_with_any_id(who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_forgotten(who, tmp_path, monkeypatch)


def require_forgotten(who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget them in a home that is full, while it is served, and look for them."""
    home = tmp_path / "home"
    with EmulatorServer(new_world(who, neighbours(who))) as server:
        reader = new_home(server, home)
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})
    fill(home, who)
    written = write_by_hand(home, who)
    assert len(left(home, who)) > 30  # the search can find
    with serving(home) as served:
        assert is_named(served.url, who)
        ended = command(["forget", who, "--yes"])
        lines = (", line 2", ", line 3", "")
        assert ended.text.splitlines() == [
            f"{path.resolve()}{line}: names them still"
            for path, line in zip(written, lines, strict=True)
        ]
        assert ended.code == 1
        assert "calls them 'Somebody': `--also` looks for that, too" in ended.err
        for path in written:
            path.unlink()
        ended = command(["forget", who, "--yes"])
        assert (ended.code, ended.out) == (0, b"")
        assert left(home, who) == []
        assert not is_named(served.url, who)
        assert is_named(served.url, neighbours(who)[0])
    state = Outbox(home).read()
    neighbour = person_of(neighbours(who)[0], None)
    assert any(neighbour.is_in(one.command) for one in state.open.values())
    with closing(sqlite3.connect(home / "dagster" / "runs.db")) as con:
        ((_,), (event,)) = con.execute("SELECT event FROM events ORDER BY id").fetchall()
    assert json.loads(json.loads(event)["json"]) == {"of": [neighbours(who)[2]]}
    assert {row["user_id"] for row in reader.rows("usage_1d")} > {*neighbours(who)}


def is_named(url: str, who: str) -> bool:
    """Whether a server names somebody in an answer, and in the page; it keeps both."""
    of = f"start_time={MIDNIGHT}&end_time={MIDNIGHT + 2 * 86_400}&bucket_width=1d&group_by=user_id"
    with client(url) as http:
        answer = ask(http, of)
        days = {"first": str(DAYS[0]), "last": str(DAYS[1])}
        page = http.get("/", params=days, timeout=60)
    assert (answer.status_code, page.status_code) == (200, 200)
    rows = [row for bucket in answer.json()["data"] for row in bucket["results"]]
    listed = {html.unescape(it) for it in re.findall(r'<option value="([^"]*)"', page.text)}
    in_answer = who in {row["user_id"] for row in rows}
    assert in_answer == (who in listed)
    return in_answer
