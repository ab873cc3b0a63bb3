"""`mka1-usage run`, `reconcile` and `probe` with keys to list with: streams and exit codes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.emulator import EmulatorServer, ManualClock, World, synthetic_world
from pipeline.lake.store import Lake
from tests.fixtures_local import Ended, clean_environment, command
from tests.truth import in_2024

SECRET = "planted-" + "5ec2e7" * 4
MARKER = "Zaphod-Beeblebrox-4711"
AT = 1_704_067_200 + 3_600
DAY = ["--start", "2024-01-01", "--end", "2024-01-02"]


@pytest.fixture
def world() -> World:
    """A made-up day of a few users."""
    return synthetic_world(days=1, users=4, conversations_per_user_day=3)


@pytest.fixture
def account(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatorServer]:
    with EmulatorServer(world) as server:
        server.api_keys = {**server.api_keys, "key_web": SECRET}
        keys = ",".join(f"{key}={secret}" for key, secret in server.api_keys.items())
        settings = {
            "MKA1_USAGE_HOME": str(tmp_path / "home"),
            "MKA1_BASE_URL": server.base_url,
            "MKA1_API_KEY": SECRET,
            "MKA1_API_KEYS": keys,
            "MKA1_USAGE_RETRY_SECONDS": "0.2",
            "MKA1_USAGE_REQUESTS_PER_SECOND": "10000",
        }
        clean_environment(monkeypatch, tmp_path, settings)
        monkeypatch.setattr(time, "time", in_2024)
        yield server


def run(*more: str) -> Ended:
    return command(["run", *DAY, *more])


@pytest.mark.slow  # README's commands in the usual run do the same, and see less of it
def test_a_run_reads_conversations_and_reconcile_prints_what_became_of_them(
    account: EmulatorServer, world: World, tmp_path: Path
) -> None:
    talked = world.all_conversations()[0].id
    world.add_items(talked, [{"type": "message", "role": "user", "content": MARKER}], AT)
    ran = run()
    assert ran.code == 0, ran.err
    assert re.search(r"[0-9]+ listings read and 0 unchanged, in [0-9,]+ requests", ran.err)
    printed = command(["reconcile", *DAY])
    assert printed.code == 0, printed.err
    assert "match" in printed.text
    assert "unexplained" not in printed.text
    lake = Lake(tmp_path / "home" / "lake")
    assert {path.name for path in lake.root.iterdir()} >= {"conversations", "items", "responses"}
    again = run()
    assert "0 listings read" in again.err
    home = tmp_path / "home"  # lake, catalog, and Dagster's databases and logs
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    decoded = "".join(str(pq.read_table(path).to_pylist()) for path in home.rglob("*.parquet"))
    for text in (SECRET, MARKER):
        assert text.encode() not in everything
        assert text not in decoded + ran.err + again.err + printed.text
    assert talked in decoded
    assert SECRET not in ran.err + again.err + printed.err


@pytest.mark.slow
def test_one_wrong_count_is_a_warning_that_names_the_command_which_lists_it(
    account: EmulatorServer, world: World
) -> None:
    world.restate(AT, "user_0000", "key_web", conversations_created=3)
    ran = run()
    assert ran.code == 0, ran.err
    assert "warning: no_unexplained_differences of reconciliation: 1 difference" in ran.err
    listed = command(["reconcile"]).text
    assert re.search(r"user_0000.*key_web.*num_conversations_c.*3.*unexplained", listed)


def test_usage_only_asks_for_usage_alone(account: EmulatorServer) -> None:
    ran = run("--usage-only")
    assert ran.code == 0, ran.err
    assert all("/usage/conversations" in target for _, target, _ in account.requests)


@pytest.mark.parametrize(
    "flags", [["--full"], pytest.param([], marks=pytest.mark.slow)], ids=" ".join
)
def test_a_refused_key_fails_the_run_and_says_which(
    account: EmulatorServer, flags: list[str]
) -> None:
    account.api_keys = {**account.api_keys, "key_mobile": "another"}
    ran = run(*flags)
    assert ran.code == 1
    assert re.search(r"error: key key_mobile: .* was refused with 401", ran.err)
    resume = " ".join(["mka1-usage run", *flags, *DAY])
    assert f"Resume with: {resume}\n" in ran.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ("reconcile", 1, "no such day is reconciled yet: set MKA1_API_KEYS"),
        ("reconcile --start 2024-01-01 --end 2024-01-02", 1, "--start 2024-01-01 --end 2024-01-02"),
        ("reconcile --limit x", 2, "--limit"),
        ("probe --conversation c --items 0 --yes", 2, "from 1 to 1,000"),
        ("probe --conversation c --items 1001 --yes", 2, "from 1 to 1,000"),
        ("probe --conversation c --items 2 --key-id nobody --yes", 2, "no secret in MKA1_API_KEYS"),
        ("probe --items 2", 2, "Missing option '--conversation'"),
        ("probe --conversation c --items 2", 2, "nothing was added"),
        ("probe --conversation nope --items 2 --yes", 1, "404"),
    ],
)
def test_bad_arguments_are_one_clear_line(
    account: EmulatorServer, args: str, code: int, said: str
) -> None:
    ended = command(args.split())
    assert ended.code == code, ended.err
    assert said in ended.err
    assert not any(method == "POST" for method, _, _ in account.requests)


def test_a_probe_says_what_it_does_adds_exactly_that_and_says_what_it_found(
    account: EmulatorServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = world.clock = ManualClock(1_704_067_200 + 5 * 86_400)

    async def wait(seconds: float) -> None:
        clock.advance(seconds)

    monkeypatch.setattr("pipeline.cli.delay_probe.sleep", wait)
    monkeypatch.setattr("pipeline.cli.delay_probe.time", clock)
    name = world.create_conversation(None, "probed", "key_web")
    asked = ["--conversation", name, "--items", "45", "--on-behalf-of", "probed", "--yes"]
    ended = command(["probe", *asked, "--key-id", "key_web"])
    assert ended.code == 0, ended.err
    assert "this adds 45 items to the conversation" in ended.err
    assert "usage counts 45 of 45" in ended.err
    assert "counted all 45 items, exactly" in ended.text
    conversation = world.conversation(name)
    assert conversation is not None
    assert len(conversation.items) == 45
    assert [method for method, _, _ in account.requests].count("POST") == 3
