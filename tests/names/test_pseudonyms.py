"""With pseudonyms the file has real ids, and none of them, and no name of a person, gets out.

Each way out is a row of a table, and is asked twice: of a lake with real ids, where it has to name
people, so that it is known to be a way out; and of one with pseudonyms, where it must not.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.api.usage import PATH
from pipeline.cli.completion import stored_users, users
from pipeline.definitions import build_defs
from pipeline.lake.store import Lake
from pipeline.names.file import NamesOfNow
from pipeline.orchestration.assets.finalize import build
from pipeline.orchestration.resources import Services
from pipeline.pseudonyms import Pseudonyms
from pipeline.report.source import Only
from pipeline.serve.page_question import Question
from pipeline.serve.pages import Pages
from pipeline.settings import load_settings
from pipeline.timeline import parse_time
from tests.fixtures_local import clean_environment, command
from tests.lake.served import Row
from tests.named import write_names
from tests.pricing.spent import START, Spent, spend
from tests.serve.asking import client, serving

KEY = "planted-pseudonym-key-0001"
PSEUDONYMS = Pseudonyms(SecretStr(KEY))
REAL = ("alice.real", "bob.real", "gone.real")
PEOPLE = ("Alice Liddell", "Bob Builder", "Gone Girl")
SECRETS: Final = (*REAL, *PEOPLE)
AT: Final = "2024-03-30T12:00"
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def of_command(line: str) -> Callable[[Path], str]:
    """What a command prints, and says of what it does."""

    def shown(_: Path) -> str:
        ended = command(shlex.split(line))
        assert ended.code in (0, 1), ended.err
        return ended.text + ended.err

    return shown


def of_export(form: str, *tables: str) -> Callable[[Path], str]:
    """What stands in the files of an export."""

    def shown(_: Path) -> str:
        folder = Path("exported")
        asked = [word for table in tables for word in ("--table", table)]
        ended = command(["export", str(folder), "--format", form, *asked])
        assert ended.code == 0, ended.err
        text = " ".join(contents(folder)) + ended.text + ended.err
        shutil.rmtree(folder)
        return text

    return shown


def of_server(path: str, **asked: Any) -> Callable[[Path], str]:
    """What the server answers."""

    def shown(home: Path) -> str:
        with serving(home) as server, client(server.url) as http:
            answer = http.get(path, params=asked, timeout=60)
            assert answer.status_code == 200, answer.text
            return answer.text

    return shown


def of_job(name: str, written: str = "nothing") -> Callable[[Path], str]:
    """What a job of Dagster records of what it makes and finds, and has `written` in the home."""

    def shown(home: Path) -> str:
        folder = Path("dagster")
        folder.mkdir()
        services = Services(load=load_settings, now=lambda: parse_time(AT))
        with dg.DagsterInstance.local_temp(str(folder)) as instance:
            job = build_defs(services).resolve_job_def(name)
            job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
        text = " ".join([*contents(folder), *contents(home / written)])
        shutil.rmtree(folder)
        shutil.rmtree(home / written, ignore_errors=True)
        return text

    return shown


def of_catalog(_: Path) -> str:
    """What any DuckDB client sees of people in usage.duckdb."""
    with closing(duckdb.connect(str(load_settings().catalog), read_only=True)) as con:
        return str([con.sql(f"FROM {view}").fetchall() for view in ("names", "user_names")])


def of_completion(_: Path) -> str:
    """What a shell offers for users: for nothing, for an id, and for a name."""
    typed = ("", "alice", "liddell")
    return str([found(one) for one in typed for found in (users, stored_users)])


DAY_ASKED: Final = {"start_time": START, "end_time": START + 86_400, "group_by": "user_id"}
WAYS_OUT: Final[Mapping[str, Callable[[Path], str]]] = {
    "sql: names": of_command("sql 'from names'"),
    "sql: user_names": of_command("sql 'from user_names' --format csv"),
    "sql: usage_1d": of_command("sql 'from usage_1d' --format json"),
    "buckets": of_command(
        "buckets --start 2024-03-30 --end 2024-03-31 --group-by user_id --names --partial"
    ),
    "budgets": of_command(f"budgets --at {AT}"),
    "budgets as JSON": of_command(f"budgets --at {AT} --format json"),
    "alerts": of_command(f"alerts --at {AT}"),
    "messages": of_command(f"alerts --send --dry-run --at {AT}"),
    "digest": of_command("digest --at 2024-04-02"),
    "export: parquet": of_export("parquet", "dim_user", "fact_usage"),
    "export: duckdb": of_export("duckdb"),
    "export: xlsx": of_export("xlsx", "dim_user", "fact_tokens", "usage_1d"),
    "export: csv": of_export("csv", "dim_user", "usage_1h"),
    "export: FOCUS": of_export("csv", "focus_costs"),
    "usage.duckdb": of_catalog,
    "serve: buckets": of_server(PATH, **DAY_ASKED, bucket_width="1d", names="true"),
    "completion": of_completion,
}
HEAVY: Final[Mapping[str, Callable[[Path], str]]] = {
    "report": of_command("report --png pictures --output -"),
    "report of a team": of_command("report --team crew --png pictures --output -"),
    "serve: report": of_server("/"),
    "Dagster: report": of_job("report_job", "report"),
    "Dagster: export": of_job("export_job", "export"),
    "Dagster: alerts": of_job("alerts_job"),
}
"""Those that draw charts, or load Dagster."""
ALL: Final = [
    *(pytest.param(it, id=name) for name, it in WAYS_OUT.items()),
    *(pytest.param(it, id=name, marks=pytest.mark.slow) for name, it in HEAVY.items()),
]


def contents(folder: Path, but: str | None = None) -> Iterator[str]:
    """What stands in files, and their names: of compressed ones, what readers get; of all but the
    folder `but`."""
    for path in sorted(folder.rglob("*")):
        if but in path.relative_to(folder).parts:
            continue
        yield path.name
        if path.suffix == ".duckdb" and path.is_file():
            with closing(duckdb.connect(str(path), read_only=True)) as con:
                tables = con.sql("SELECT database_name, table_name FROM duckdb_tables()").fetchall()
                yield from (str(con.sql(f'FROM "{a}"."{b}"').fetchall()) for a, b in tables)
        elif path.suffix == ".parquet":
            yield str(pq.ParquetFile(path).read().to_pydict())
        elif path.suffix == ".xlsx":
            with zipfile.ZipFile(path) as book:
                yield from (book.read(one).decode() for one in book.namelist())
        elif path.is_file():
            yield path.read_bytes().decode(errors="replace")


def people_in(text: str) -> set[str]:
    """The real ids and the names of people in a text."""
    return {secret for secret in SECRETS if secret in text}


def bill(user: str) -> Row:
    """A row of costs_1d."""
    row: Row = dict.fromkeys(("user_id", "api_key_id", "model", "team_id", "org_id"))
    times = {"start_time": START, "end_time": START + 86_400}
    return {**row, **times, "currency": "usd", "cost_nano": 5, "user_id": user}


Home = tuple[Path, Mapping[str, str]]
"""A home folder, and the variables that name it."""


def make_home(folder: Path, *, hidden: bool) -> Home:
    """A home with real ids, or under pseudonyms; its catalog is built by what a run does, and names
    and budgets are outside of it."""
    home, outside = folder / "home", folder / "outside"
    outside.mkdir(parents=True)
    ids = [PSEUDONYMS.of(it) if hidden else it for it in REAL[:2]]
    spent = [Spent(START + n * 3_600, id_, f"key{n}") for n, id_ in enumerate(ids)]
    fingerprint = PSEUDONYMS.fingerprint if hidden else None
    spend(home, spent, fingerprint=fingerprint, tables={"costs_1d": [bill(ids[0])]})
    lines = [f"user,{id_},{name},crew" for id_, name in zip(REAL, PEOPLE, strict=True)]
    path = write_names(outside, *lines, "key,key0,Web shop,", "team,crew,The crew,")
    budgets = outside / "budgets.csv"
    budgets.write_text(
        "scope,id,period,measure,amount\nteam,crew,month,operations,1\n"
        f"user,{REAL[0]},month,operations,1\n"
    )
    variables = {
        **({"MKA1_USAGE_PSEUDONYM_KEY": KEY} if hidden else {}),
        **{"MKA1_USAGE_HOME": str(home), "MKA1_USAGE_NAMES": str(path)},
        **{"MKA1_USAGE_BUDGETS": str(budgets)},
    }
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch, outside, variables)
        build(Services(load=load_settings))
    return home, variables


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Home]:
    """Homes by whether they are under pseudonyms. Tests only read them."""
    folder = tmp_path_factory.mktemp("homes")
    return {hidden: make_home(folder / f"{hidden}", hidden=hidden) for hidden in (False, True)}


@pytest.fixture
def home(homes: Mapping[bool, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home under pseudonyms, as that of the settings."""
    home, variables = homes[True]
    clean_environment(monkeypatch, tmp_path, variables)
    return home


@pytest.mark.parametrize("shown", ALL)
def test_what_names_people_names_nobody_under_pseudonyms(
    shown: Callable[[Path], str],
    homes: Mapping[bool, Home],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for hidden, (home, variables) in homes.items():
        work = tmp_path / f"{hidden}"
        work.mkdir()
        clean_environment(monkeypatch, work, variables)
        text = shown(home)
        assert bool(people_in(text)) is not hidden, text
        if hidden:
            left = [*contents(home, but="lake"), *contents(work)]  # tests write the lake itself
            assert people_in(" ".join(left)) == set()


def test_names_check_says_how_many_names_are_left_out(home: Path) -> None:
    ended = command(["names", "check"])
    assert "3 names of users are left out" in ended.text
    assert "line 4: a user" in ended.text, "nobody's real id, and the line all the same"
    assert people_in(ended.text + ended.err) == set()
    assert Lake(home / "lake").all_days()


@pytest.mark.usefixtures("home")
def test_names_check_finds_lines_with_a_name_alone_though_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"user,{id_},{name}," for id_, name in zip(REAL, PEOPLE, strict=True)]
    monkeypatch.setenv("MKA1_USAGE_NAMES", str(write_names(tmp_path, *lines)))
    ended = command(["names", "check"])
    assert ended.err == ""
    assert "2 of 2 users in use are in the file" in ended.text
    assert "Not in the file, users" not in ended.text
    assert "Nothing that is loaded uses:\n  line 4: a user\n" in ended.text
    assert people_in(ended.text + ended.err) == set()


@pytest.mark.usefixtures("home")
def test_teams_count_by_the_pseudonyms_of_real_ids_and_are_named() -> None:
    asked = "select team_id, team_name, num_operations from team_usage_by('1mo')"
    rows = json.loads(command(["sql", asked, "--format", "json"]).text)
    assert rows == [{"team_id": "crew", "team_name": "The crew", "num_operations": 2}]
    assert str(PSEUDONYMS.of(REAL[0])) in command(["sql", "from user_names"]).text
    assert "The crew" in command(["budgets", "--at", AT]).text


def test_a_report_is_of_a_real_id_or_its_pseudonym_and_shows_the_pseudonym_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.page._both", lambda *_: "")
    pseudonym = PSEUDONYMS.of(REAL[0])
    of_real, of_pseudonym, of_team = (
        command(["report", "-o", "-", *asked])
        for asked in (["--user", REAL[0]], ["--user", pseudonym], ["--team", "crew"])
    )
    assert of_real.code == of_pseudonym.code == of_team.code == 0
    assert of_real.text == of_pseudonym.text
    assert f"Of user {pseudonym}" in of_real.text
    assert f"--user {pseudonym}</code>" in of_real.text
    assert "1 user with 1 API key made 1 operation" in of_real.text
    assert "of 1 budget is" in of_real.text
    assert "1 more budget is of other usage" in of_real.text
    assert "Of team The crew" in of_team.text
    assert "2 users with 2 API keys made 2 operations" in of_team.text
    said = of_real.text + of_team.text + of_real.err + of_team.err
    assert people_in(said) == set()
    monkeypatch.delenv("MKA1_USAGE_PSEUDONYM_KEY")
    monkeypatch.delenv("MKA1_USAGE_BUDGETS")
    without_key = command(["report", "-o", "-", "--user", REAL[0]])
    assert without_key.code == 1
    assert "now MKA1_USAGE_PSEUDONYM_KEY is not set" in without_key.err
    assert home.is_dir()


def test_the_live_page_of_a_team_names_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.page._both", lambda *_: "")
    settings = load_settings()
    lake = Lake(home / "lake")
    pages = Pages(settings, lake, NamesOfNow(settings, lake))
    text = asyncio.run(pages.page(Question(only=Only(team="crew"))))[0].content.decode()
    pages.close()
    assert "Of team The crew" in text
    assert "User (pseudonym)" in text
    assert '<option value="crew" selected>The crew</option>' in text
    assert str(PSEUDONYMS.of(REAL[1])) in text
    assert people_in(text) == set()


def test_without_the_key_nothing_is_said_of_users(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MKA1_USAGE_PSEUDONYM_KEY")
    ended = command(["sql", "from names", "--format", "csv"])
    assert [line.split(",")[0] for line in ended.text.splitlines()] == ["kind", "key", "team"]
    assert "warning: 3 lines of users are left out of the names" in ended.err
    assert people_in(ended.text + ended.err + " ".join(contents(home))) == set()
