"""Whoever is forgotten is in no table, version, page, export, state, report, record or log."""

from __future__ import annotations

import json
import shutil
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from filelock import FileLock
from pydantic import SecretStr

from pipeline.conversations import cursors
from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.forget import forget, leftovers, person_of
from pipeline.forget.leftovers import forget_outputs, forget_records
from pipeline.forget.search import Searched
from pipeline.lake import forgotten as people
from pipeline.lake.catalog import NAMES, build_catalog, names_of
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError
from pipeline.lake.verification import verify
from pipeline.pseudonyms import Pseudonyms
from tests.forget.people import (
    DAYS,
    LATER,
    MIDNIGHT,
    OTHERS,
    WHO,
    add_outputs,
    forgotten,
    named_in,
    new_home,
    new_world,
    places_of,
)
from tests.synced import Reader, rows_of
from tests.torture.search import everything
from tests.truth import digests

PSEUDONYMS = Pseudonyms(SecretStr("planted-pseudonym-key-0001"))


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    """A world that tests only read."""
    with EmulatorServer(new_world()) as server:
        yield server


@pytest.fixture(scope="module")
def original(server: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which everybody is; tests copy it."""
    home = tmp_path_factory.mktemp("original") / "home"
    new_home(server, home)
    add_outputs(home)
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    """Such a home of the test's own."""
    return Path(shutil.copytree(original, tmp_path / "home", symlinks=True))


@pytest.fixture
def reader(server: EmulatorServer, home: Path) -> Reader:
    """What loads and syncs that home."""
    return Reader(server, Lake(home / "lake"), DAYS)


def totals(lake: Lake) -> dict[str, object]:
    """Each table's numbers without the users."""
    return {
        name: sorted(
            repr({key: value for key, value in row.items() if key not in {"user_id", "metadata"}})
            for row in rows
        )
        for name, rows in rows_of(lake, DATASETS.keys() - {"item_contents"}).items()
    }


def test_nothing_of_them_is_left_and_every_total_stays(reader: Reader, home: Path) -> None:
    before = totals(reader.lake)
    assert len(named_in(home)) > 20  # the search can find
    outcome = forgotten(reader, home)
    assert outcome.proven
    assert {*DAYS} <= {*outcome.days}
    assert named_in(home) == []
    assert totals(reader.lake) == before
    users = {row["user_id"] for row in reader.rows("usage_1m")}
    assert users == {outcome.name, *OTHERS}
    assert outcome.name not in WHO
    assert outcome.name.startswith("forgotten_")
    assert verify(reader.lake, home / "usage.duckdb").problems == ()


def test_others_keep_their_names_in_the_catalog(reader: Reader, home: Path) -> None:
    """Also where the file of names still has a line of the person: the catalog has it no more."""
    lines = [("user", WHO, "Zaphod", "a"), ("user", "bob", "Bob", "a"), ("team", "a", "Team", None)]
    columns = [pa.array(column, pa.string()) for column in zip(*lines, strict=True)]
    catalog = home / "usage.duckdb"
    build_catalog(reader.lake, catalog, names=pa.table(columns, schema=NAMES))
    forgotten(reader, home)
    names = names_of(catalog)
    assert names is not None
    assert names.column("id").to_pylist() == ["bob", "a"]


@pytest.mark.slow
def test_what_they_wrote_goes_and_what_others_wrote_stays_but_where_it_names_them(
    reader: Reader, home: Path
) -> None:
    said = {row["conversation_id"] for row in reader.rows("item_contents")}
    forgotten(reader, home)
    theirs = {row["id"] for row in reader.rows("conversations") if row["user_id"] not in OTHERS}
    assert theirs
    assert theirs < said
    assert {row["conversation_id"] for row in reader.rows("item_contents")} == said - theirs
    assert {row["metadata"] for row in reader.rows("conversations")} == {None}  # all name them


@pytest.mark.parametrize(
    ("who", "said"),
    [(WHO, b64encode(f"{WHO} said".encode()).decode()), ("'\"<" * 600, "'\"<" * 600)],
    ids=["in base64", "a long id"],
)
def test_what_others_wrote_of_them_goes_however_it_is_written(
    who: str, said: str, tmp_path: Path
) -> None:
    world = World(clock=ManualClock(LATER))
    for user in (who, "bob"):
        world.create_conversation(MIDNIGHT, user, "key_web", {"of": said})
    world.create_conversation(MIDNIGHT, "bob", "key_web", {"of": "nobody"})
    with EmulatorServer(world) as server:
        reader = new_home(server, tmp_path / "home")
        assert forgotten(reader, tmp_path / "home", who).proven
    said_of = {row["metadata"] for row in reader.rows("conversations")}
    assert said_of == {None, '{"of":"nobody"}'}


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_no_version_is_left_from_before(reader: Reader, home: Path) -> None:
    forgotten(reader, home)
    for day in DAYS:
        assert list(reader.lake.versions(day).iterdir()) == [reader.lake.version(day)]


@pytest.mark.slow
def test_later_loads_refreshes_and_syncs_do_not_bring_them_back(reader: Reader, home: Path) -> None:
    forgotten(reader, home)
    after = digests(reader.lake.root)
    asked = len(reader.server.requests)
    reader.load()
    synced = reader.sync(full=True, keep_content=True)
    assert digests(reader.lake.root) == after
    assert named_in(home) == []
    assert not any("zaphod" in target for _, target, _ in reader.server.requests[asked:])
    assert not any(WHO in str(gap) for gap in synced.gaps)
    assert forgotten(reader, home).days == ()  # nothing is left to be done


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_what_commands_note_is_rewritten(reader: Reader, home: Path) -> None:
    (home / "told.json").write_text(f'{{"told": "spike of {WHO}"}}', encoding="utf-8")
    outcome = forgotten(reader, home)
    assert outcome.proven
    assert (home / "told.json").read_text(encoding="utf-8") == (
        f'{{"told": "spike of {outcome.name}"}}'
    )


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_syncs_go_on_where_they_were(reader: Reader, home: Path) -> None:
    before = cursors.load(reader.lake)
    outcome = forgotten(reader, home)
    after = cursors.load(reader.lake)
    assert after.tails == before.tails
    assert {user for _, user in after.listings} == {None, outcome.name, *OTHERS}
    assert reader.sync().listings == 0


@pytest.mark.slow
def test_a_home_without_them_refuses_to_bring_them_in(
    server: EmulatorServer, tmp_path: Path
) -> None:
    """Forgotten before anything of theirs is loaded."""
    reader = Reader(server, Lake(tmp_path / "home" / "lake"), DAYS)
    people.begin(reader.lake, WHO)
    reader.load()
    reader.sync()
    assert named_in(tmp_path / "home") == []


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_with_pseudonyms_either_id_will_do(server: EmulatorServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    reader = new_home(server, home, PSEUDONYMS)
    stored = PSEUDONYMS.of(WHO)
    assert named_in(home, stored)
    outcome = forgotten(reader, home, WHO)
    assert outcome.proven
    assert (named_in(home, stored), named_in(home)) == ([], [])
    after = digests(reader.lake.root)
    reader.load()
    reader.sync(full=True)
    assert digests(reader.lake.root) == after
    assert forgotten(reader, home, stored).name == outcome.name


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_the_list_of_the_forgotten_names_nobody_and_is_needed(reader: Reader, home: Path) -> None:
    outcome = forgotten(reader, home)
    path = home / "lake" / ".forgotten.json"
    known = people.forgotten(reader.lake)
    assert known.name_of(WHO) == outcome.name
    assert known.name_of("bob") is None
    assert not known.unfinished
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserIdModeError, match="who was forgotten"):
        reader.load()


def test_lists_of_several_homes_stand_beside_each_other(tmp_path: Path) -> None:
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    names = people.begin(one, "ada"), people.begin(other, "bob")
    assert people.learn(other, people.forgotten(one).public)
    assert not people.learn(other, people.forgotten(one).public)
    known = people.forgotten(other)
    assert (known.name_of("ada"), known.name_of("bob")) == names
    assert people.begin(other, "ada") == names[0]
    with pytest.raises(ValueError, match=r"."):
        people.learn(other, "[{}]")


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("call zaphod+4711@planted.example.", True),
        ("(zaphod+4711@planted.example) is away", True),
        ("auth0|42, and bob", True),
        ("call zaphod+4711@planted.example.org", False),
        ("call x-zaphod+4711@planted.example", False),
    ],
)
def test_what_others_say_of_somebody_forgotten_is_not_brought_back(
    said: str, hidden: bool, tmp_path: Path
) -> None:
    """By a later sync; as a word of a text, too."""
    lake = Lake(tmp_path / "lake")
    for who in (WHO, "auth0|42"):
        people.begin(lake, who)
    assert people.forgotten(lake).is_named_in(json.dumps({"note": said})) == hidden


def test_half_a_character_in_what_others_say_is_nobody(tmp_path: Path) -> None:
    """JSON can escape one: a load goes on."""
    lake = Lake(tmp_path / "lake")
    people.begin(lake, "ada")
    ids = people.LakeIds(lake, None).now
    assert ids is not None
    assert [ids.hides("bob", said) for said in (r'["\ud83d"]', r'["\ud83d", "ada"]')] == [
        False,
        True,
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_what_people_wrote_themselves_is_left_to_them_and_named(reader: Reader, home: Path) -> None:
    budgets = home / "budgets.csv"
    budgets.write_text(f"scope,id\nuser,{WHO}\n", encoding="utf-8")
    outcome = forgotten(reader, home)
    assert not outcome.proven
    assert outcome.searched.found == {str(budgets.resolve()): [2]}
    assert people.forgotten(reader.lake).unfinished
    budgets.unlink()
    assert forgotten(reader, home).proven
    assert not people.forgotten(reader.lake).unfinished


def test_what_others_put_into_the_folder_of_an_export_is_left_to_them(tmp_path: Path) -> None:
    """Whatever they call it: only what the manifest of an export names is removed."""
    export, other = tmp_path / "export", tmp_path / "home" / "notebooks"
    add_outputs(tmp_path)
    other.mkdir(parents=True)
    (other / "export.json").write_text(f'{{"files": {{"{WHO}": 1}}}}', encoding="utf-8")
    (export / "pivot.csv").write_text(f"{WHO},5\n", encoding="utf-8")
    (export / "home").mkdir()
    (export / "home" / "names.csv").write_text("kind,id,name\n", encoding="utf-8")
    assert forget_outputs(tmp_path / "home", export, person_of(WHO, None)) == [export]
    assert sorted(path.name for path in export.iterdir()) == ["home", "pivot.csv"]
    assert (export / "home" / "names.csv").is_file()
    assert (other / "export.json").is_file()


def test_folders_of_the_home_that_are_links_are_searched_and_rewritten(tmp_path: Path) -> None:
    """A lake on another disk, say."""
    home = tmp_path / "home"
    for name in ("lake", "messages"):
        (tmp_path / "disk" / name).mkdir(parents=True)
        home.mkdir(exist_ok=True)
        (home / name).symlink_to(tmp_path / "disk" / name)
    note, state = home / "lake" / "note.txt", home / "messages" / "state.json"
    for path in (note, state):
        path.write_text(WHO, encoding="utf-8")
    outcome = forget(Lake(home / "lake"), places_of(home), person_of(WHO, None))
    assert outcome.rewritten == (state,)
    assert outcome.searched.found == {str(note.resolve()): [1]}


def test_a_report_that_stands_elsewhere_is_removed_there(tmp_path: Path) -> None:
    """Its folder can be a link, or mounted."""
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    home.mkdir()
    (elsewhere / "usage.html").write_text(WHO, encoding="utf-8")
    (home / "report").symlink_to(elsewhere)
    assert forget_outputs(home, home / "export", person_of(WHO, None)) == [home / "report"]
    assert [*elsewhere.iterdir()] == []


def test_an_export_that_is_under_way_is_waited_for(tmp_path: Path) -> None:
    add_outputs(tmp_path)
    lock = FileLock(tmp_path / "export" / ".mka1-usage-lock", thread_local=False)
    with ThreadPoolExecutor() as pool:
        with lock:
            person = person_of(WHO, None)
            done = pool.submit(forget_outputs, tmp_path, tmp_path / "export", person)
            with pytest.raises(TimeoutError):
                done.result(0.2)
        assert tmp_path / "export" in done.result(60)


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_other_words_are_looked_for_too(reader: Reader, home: Path) -> None:
    note = home / "note.txt"
    note.write_text("call Zaphod Beeblebrox\n", encoding="utf-8")
    person = person_of(WHO, None, ["Zaphod Beeblebrox"])
    assert forgotten(reader, home, person).searched.found == {str(note.resolve()): [1]}


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_the_search_sees_into_every_kind_of_file_that_is_kept(original: Path) -> None:
    """Held against a search that shares no code with it."""
    person = person_of(WHO, None)
    searched = Searched()
    searched.read_folders([original], person)
    found = {str(Path(place).relative_to(original)) for place in searched.found}
    seen = {
        name
        for name in named_in(original)
        if not (original / name).is_symlink() and (original / name).is_file()
    }
    inodes = {(original / name).stat().st_ino for name in found}
    assert {(original / name).stat().st_ino for name in seen if "days" not in name} <= inodes
    assert len(everything(original)) > len(found)


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_a_file_that_can_not_be_read_is_no_proof(reader: Reader, home: Path) -> None:
    version = reader.lake.version(DAYS[0])
    assert version is not None
    broken = version / "usage_1h.parquet"
    broken.write_bytes(broken.read_bytes()[:100])
    outcome = forgotten(reader, home)
    assert not outcome.proven
    assert [Path(place).name for place in outcome.searched.unread] == ["usage_1h.parquet"]


def test_a_damaged_database_is_left_to_the_search_which_names_it(tmp_path: Path) -> None:
    """Half of a copy in the home is no reason to forget nobody."""
    add_outputs(tmp_path)
    damaged = tmp_path / "copy.db"
    damaged.write_bytes(b"SQLite format 3\0" + b"half of a copy" * 100)
    lake, person = Lake(tmp_path / "lake"), person_of(WHO, None)
    assert damaged not in forget_records(lake, tmp_path, [], person, "forgotten_1")
    searched = Searched()
    searched.read_file(damaged, person)
    assert list(searched.unread) == [str(damaged)]


def test_a_database_that_is_in_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_outputs(tmp_path)
    monkeypatch.setattr(leftovers, "_WAIT", 0)
    lake, person = Lake(tmp_path / "lake"), person_of(WHO, None)
    with closing(sqlite3.connect(tmp_path / "dagster" / "history" / "runs.db")) as con:
        con.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match=r"runs\.db: database is locked"):
            forget_records(lake, tmp_path, [tmp_path / "dagster"], person, "forgotten_1")


@pytest.mark.slow
@pytest.mark.usefixtures("at_length")
def test_people_with_short_ids_are_forgotten_too(reader: Reader, home: Path) -> None:
    outcome = forgotten(reader, home, person_of("bob", None))
    assert outcome.proven
    assert "bob" not in {row["user_id"] for row in reader.rows("usage_1m")}
