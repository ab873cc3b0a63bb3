"""The commands under pseudonyms, and what `sql` may read: what is printed, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.emulator import EmulatorServer, Event, ManualClock, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import Window, parse_time
from tests.fixtures_local import clean_environment, command
from tests.truth import load

START = parse_time("2024-01-01")
KEY = "planted-pseudonym-key-0001"
PSEUDONYMS = Pseudonyms(SecretStr(KEY))
BUCKETS = ["buckets", "--start", "2024-01-01", "--group-by", "user_id"]


def world() -> World:
    """A day of two users and nobody."""
    events = [Event(START, user, "k", 0, 0, n) for n, user in enumerate(["alice", "bob", None], 1)]
    return World.from_events(events)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home with the ids as they are, and one under pseudonyms. Tests only read them."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("clear", "hidden")}
    with EmulatorServer(world()) as server:
        for name, pseudonyms in (("clear", None), ("hidden", PSEUDONYMS)):
            lake = Lake(made[name] / "lake")
            load(server, lake, Window(START, START + 86_400).days, pseudonyms=pseudonyms)
            build_catalog(lake, made[name] / "usage.duckdb")
    return made


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, homes: dict[str, Path]) -> None:
    settings = {"MKA1_USAGE_HOME": str(homes["hidden"]), "MKA1_USAGE_PSEUDONYM_KEY": KEY}
    clean_environment(monkeypatch, tmp_path, settings)


def test_buckets_are_filtered_by_the_real_id_and_show_the_pseudonym() -> None:
    ended = command([*BUCKETS, "--user-id", "alice"])
    assert ended.code == 0, ended.err
    [bucket] = json.loads(ended.out)["data"]
    [result] = bucket["results"]
    assert (result["user_id"], result["num_operations"]) == (PSEUDONYMS.of("alice"), 1)
    assert "alice" not in ended.text


def test_a_page_of_a_filtered_query_goes_on_with_the_same_filter() -> None:
    options = [*BUCKETS, "--width", "1h", "--limit", "1", "--user-id", "alice"]
    cursor = json.loads(command(options).out)["next_page"]
    assert command([*options, "--page", cursor]).code == 0
    assert command([*options[:-1], "bob", "--page", cursor]).code == 2


@pytest.mark.parametrize(("home", "key"), [("clear", KEY), ("hidden", ""), ("hidden", f"{KEY}x")])
def test_a_filter_by_ids_that_the_lake_does_not_hold_is_refused(
    home: str, key: str, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer would say that alice has no usage."""
    monkeypatch.setenv("MKA1_USAGE_HOME", str(homes[home]))
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", key)
    ended = command([*BUCKETS, "--user-id", "alice"])
    assert (ended.code, ended.out) == (1, b"")
    assert "MKA1_USAGE_PSEUDONYM_KEY" in ended.err
    assert ended.err.count("\n") == 1
    assert command(BUCKETS).code == 0, "whoever asks for all gets all"


def test_a_run_with_another_key_is_refused_in_one_line(
    homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", f"{KEY}x")
    with EmulatorServer(world()) as server:
        monkeypatch.setenv("MKA1_BASE_URL", server.base_url)
        monkeypatch.setenv("MKA1_API_KEY", server.api_key)
        ended = command(["run", "--start", "2024-01-01", "--end", "2024-01-02"])
        assert server.requests == []
    assert ended.code == 1
    [error] = [line for line in ended.err.splitlines() if "error: " in line]
    assert re.search(
        r"error: \S+/lake was written with a key of fingerprint [0-9a-f]{16}, and now "
        r"MKA1_USAGE_PSEUDONYM_KEY is a key of fingerprint [0-9a-f]{16}: set the key of then again",
        error,
    )


def test_a_probe_names_nobody_it_acts_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(START + 5 * 86_400)

    async def wait(seconds: float) -> None:
        clock.advance(seconds)

    monkeypatch.setattr("pipeline.cli.delay_probe.sleep", wait)
    monkeypatch.setattr("pipeline.cli.delay_probe.time", clock)
    probed = World(clock=clock)
    name = probed.create_conversation(None, "alice", "key_web")
    with EmulatorServer(probed) as server:
        monkeypatch.setenv("MKA1_BASE_URL", server.base_url)
        monkeypatch.setenv("MKA1_API_KEY", server.api_keys["key_web"])
        asked = ["probe", "--conversation", name, "--items", "2", "--on-behalf-of", "alice"]
        ended = command([*asked, "--yes"])
    assert ended.code == 0, ended.err
    assert f"of user '{PSEUDONYMS.of('alice')}'" in ended.err
    assert "alice" not in ended.err + ended.text
    assert "counted all 2 items, exactly" in ended.text


def test_sql_reads_what_it_is_allowed_to_beside_the_lake(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_text("n\n1\n")
    query = "select sum(n) as n from 'one/x.csv', usage_1d union all from 'two/x.csv'"
    assert command(["sql", query]).code == 2
    assert command(["sql", "--allow", "one", query]).code == 2
    for form in ("csv", "table"):
        ended = command(["sql", "--allow", "one", "--allow", "two", "--format", form, query])
        assert ended.code == 0, ended.err
        assert "3" in ended.text


@pytest.mark.parametrize("folder", ["nowhere", "file.csv"])
def test_only_a_folder_can_be_allowed(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("n\n1\n")
    ended = command(["sql", "--allow", folder, "select 1"])
    assert (ended.code, ended.out) == (2, b"")
    assert "--allow" in ended.err
    assert folder in ended.err
