"""docs/retention.md: its commands do what it says, and its tables are those that are dropped."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipeline.emulator import EmulatorServer
from pipeline.lake.retention import TABLES
from pipeline.lake.store import Lake
from tests.documented import blocks
from tests.fixtures_local import clean_environment, command
from tests.forget.people import DAYS, new_home, new_world

PAGE = (Path(__file__).parents[1] / "docs" / "retention.md").read_text(encoding="utf-8")
COMMANDS = [line for block in blocks(PAGE, "bash") for line in block.splitlines()]


@pytest.mark.slow
def test_its_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks is answered by `--yes`, as where there is no terminal."""
    with EmulatorServer(new_world()) as server:
        new_home(server, tmp_path / "home")
    kinds = {"MINUTES": "90", "ITEMS": "365", "CONTENTS": "14"}
    days = {f"MKA1_USAGE_KEEP_{kind}_DAYS": kept for kind, kept in kinds.items()}
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path / "home"), **days})
    assert COMMANDS == ["mka1-usage prune", "mka1-usage forget ada"]
    pruned = command(shlex.split(COMMANDS[0])[1:])
    assert pruned.code == 0
    for kind in ("minutes", "items"):
        assert f"{kind} of 2 days dropped: 2024-01-01 to 2024-01-02" in pruned.err
    assert Lake(tmp_path / "home" / "lake").file("usage_1m", DAYS[0]) is None
    assert command(shlex.split(COMMANDS[1])[1:]).code == 2
    assert command([*shlex.split(COMMANDS[1])[1:], "--yes"]).code == 0


@pytest.mark.slow
def test_where_all_is_kept_prune_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path / "home")})
    ended = command(["prune"])
    assert ended.code == 2
    assert "set MKA1_USAGE_KEEP_MINUTES_DAYS" in ended.err


def test_it_names_what_is_dropped() -> None:
    for tables in TABLES.values():
        for name in tables:
            assert f"`{name}`" in PAGE or f"`_{name.rpartition('_')[2]}`" in PAGE
