"""Every command, query and snippet of the README, and of the pages that share its world, runs here.

The exceptions are its two lines that install, which `.ci/run` takes from the README and runs. Pages
with a world of their own (`OTHER_TESTS`) have a test of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Final

import httpx
import pytest

from pipeline.emulator import EmulatorServer, World, synthetic_world
from pipeline.lake.catalog import build_catalog
from pipeline.lake.macros import MACROS, VIEWS
from pipeline.lake.store import Lake
from pipeline.names.file import read_names
from pipeline.pricing.prices import read_prices
from pipeline.query import ad_hoc
from pipeline.settings import Settings
from pipeline.timeline import day_of, day_range, parse_time
from tests.alerts.history import HOUR, History
from tests.bounded import finished, read_until, started
from tests.documented import blocks, pasted
from tests.synced import Reader
from tests.truth import in_2024

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
BIN: Final = Path(sys.executable).parent
DAYS: Final = list(day_range(day_of(parse_time("2024-01-01")), day_of(parse_time("2024-01-07"))))
DOCS: Final = ROOT / "docs"
OTHER_TESTS: Final = {
    *("alerts", "bi", "contributing", "engines", "operations", "retention", "serving"),
    *("shared-lake", "spark"),
}
"""Pages whose commands a test of their own runs, in a world of their own."""

PAGES: Final = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(DOCS.glob("*.md"))
    if path.stem not in OTHER_TESTS
}
ALL: Final = "\n".join([README, *PAGES.values()])
SETTINGS: Final = PAGES["settings"]
COOKBOOK: Final = PAGES["cookbook"]
COMMANDS: Final = [line for block in blocks(ALL, "bash") for line in block.splitlines()]
INSTALLS: Final = [line for line in COMMANDS if " install " in line]
SERVERS: Final = [
    line for line in COMMANDS if line.startswith(("mka1-usage emulator", "mka1-usage serve"))
]
WITH_VARIABLES: Final = [
    block for block in blocks(ALL, "bash") if re.search(r"^export ", block, re.MULTILINE)
]
"""Blocks that set the environment of their later commands."""
RUNNABLE: Final = [
    line
    for block in blocks(ALL, "bash")
    if block not in WITH_VARIABLES
    for line in block.splitlines()
    if line not in {*INSTALLS, *SERVERS}
]


def week() -> World:
    """A week of a small platform, and what time it is there: a few days later."""
    return synthetic_world(users=5, conversations_per_user_day=1.5, clock=in_2024)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone, as far as the commands need one, with a week loaded into `data`."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "workspace.yaml", folder)
    lake = Lake(folder / "data" / "lake")
    with EmulatorServer(week()) as server:
        reader = Reader(server, lake, DAYS)
        reader.load()
        reader.sync()
    demo = folder / "data" / "demo"
    shutil.copytree(lake.root, demo / "lake", symlinks=True)
    for home in (demo, folder / "data"):
        written = blocks(PAGES["pricing"], "csv") + blocks(PAGES["names"], "csv")
        for name, content in zip(("prices", "budgets", "names"), written, strict=True):
            (home / f"{name}.csv").write_text(content)
        prices = read_prices(home / "prices.csv").table
        names = read_names(home / "names.csv").table
        build_catalog(Lake(home / "lake"), home / "usage.duckdb", prices=prices, names=names)
        (home / "dagster").mkdir()
    return folder


@pytest.fixture(scope="module")
def environment(place: Path) -> Iterator[Mapping[str, str]]:
    """An account at the emulator, and the virtual environment's commands first on the path."""
    with EmulatorServer(week()) as server:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("MKA1")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "DAGSTER_HOME": str(place / "data" / "dagster"),
            "MKA1_BASE_URL": server.base_url,
            "MKA1_API_KEY": server.api_key,
            "MKA1_API_KEYS": ",".join(f"{key}={it}" for key, it in server.api_keys.items()),
            "MKA1_USAGE_REQUESTS_PER_SECOND": "10000",
        }


def test_the_two_lines_that_install_are_the_ones_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    patterns = re.findall(r"readme_line '(.+?)'", ci)
    assert len(INSTALLS) == len(patterns) == 2
    for line, pattern in zip(INSTALLS, patterns, strict=True):
        assert [each for each in COMMANDS if re.search(pattern, each)] == [line]


@pytest.mark.parametrize("command", RUNNABLE)
def test_a_command_does_what_it_should(
    command: str, place: Path, environment: Mapping[str, str]
) -> None:
    done = pasted(command, place, environment)
    assert done.returncode == 0, done.stderr
    assert environment["MKA1_API_KEY"] not in done.stdout + done.stderr
    if command.startswith("mka1-usage buckets"):
        page = json.loads(done.stdout)
        assert len(page["data"]) == 24
        assert any(bucket["results"] for bucket in page["data"])


@pytest.mark.parametrize("block", WITH_VARIABLES)
def test_a_block_that_sets_variables_works_line_by_line(
    block: str, place: Path, environment: Mapping[str, str]
) -> None:
    shell = dict(environment)
    for line in block.replace("your-key", environment["MKA1_API_KEY"]).splitlines():
        if line.startswith("export "):
            name, value = line.removeprefix("export ").split("=")
            shell[name] = value
        elif line.startswith("unset "):
            shell.pop(line.removeprefix("unset "), None)
        else:
            done = pasted(line, place, shell)
            assert done.returncode == 0, (line, done.stderr)


@pytest.mark.parametrize("command", SERVERS)
def test_a_server_answers_until_it_is_stopped(
    command: str, place: Path, environment: Mapping[str, str], unused_port: int
) -> None:
    port = f"--port {unused_port}"
    moved = re.sub(r"--port \d+", port, command)
    with started(
        ["bash", "-c", f"exec {moved}"], cwd=place, env=environment, stdout=PIPE, stderr=STDOUT
    ) as process:
        assert process.stdout is not None
        read_until("(?i)serving .*on http", process.stdout)
        # It says so a moment before it listens; the transport tries to connect until it does.
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=60) as client:
            assert client.get(f"http://127.0.0.1:{unused_port}/").status_code < 500


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A month with a spike in its last hour: a week alone has nothing to hold one against."""
    home = tmp_path_factory.mktemp("month")
    history = History(days=30)
    history.daily(100)
    history.use(history.end - HOUR, 5_000)
    history.publish(home)
    return home


@pytest.mark.parametrize("query", blocks(ALL, "sql"))
def test_a_query_of_the_cookbook_has_an_answer(query: str, place: Path, month: Path) -> None:
    out = BytesIO()
    data = month if "spikes(" in query else place / "data"
    ad_hoc.export(data / "usage.duckdb", Lake(data / "lake"), query, "json", out)
    rows = json.loads(out.getvalue())
    assert (
        rows or "growth_by_user" in query
    )  # no week is before this one: test_docs_cookbook has more


def test_the_cookbook_has_its_queries_and_names_every_macro() -> None:
    assert len(blocks(COOKBOOK, "sql")) == 24
    for macro in MACROS[1:]:
        assert f"`{macro.name}({', '.join(macro.parameters)})`" in COOKBOOK
    for view in VIEWS:
        assert f"`{view}`" in COOKBOOK


@pytest.mark.parametrize("snippet", blocks(ALL, "python"))
def test_a_snippet_of_python_runs(snippet: str, place: Path) -> None:
    done = finished([sys.executable, "-W", "error", "-c", snippet], cwd=place)
    assert "key_web" in done.stdout


def test_the_benchmarks_are_run_by_the_command_that_their_page_gives() -> None:
    assert "`python -m tests.benchmarks`" in PAGES["benchmarks"]
    done = finished([sys.executable, "-m", "tests.benchmarks", "--help"], cwd=ROOT)
    assert "ingest" in done.stdout


def test_every_setting_is_explained() -> None:
    names = {str(field.validation_alias) for field in Settings.model_fields.values()}
    explained = set(re.findall(r"`((?:MKA1|DAGSTER)_[A-Z_]+)`", SETTINGS))
    assert names <= explained
    assert {name for name in explained if name.startswith("MKA1")} <= names
