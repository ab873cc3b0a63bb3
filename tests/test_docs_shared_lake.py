"""The commands of docs/shared-lake.md, one after the other, against the emulator."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.lake.schemas import DATASETS, RECORD_DATASETS
from tests.documented import blocks, pasted
from tests.truth import in_2024

PAGE: Final = (Path(__file__).parents[1] / "docs" / "shared-lake.md").read_text(encoding="utf-8")


def test_the_pages_commands_do_what_it_says(tmp_path: Path) -> None:
    world = synthetic_world(users=3, conversations_per_user_day=1, clock=in_2024)
    with EmulatorServer(world) as server:
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "MKA1_BASE_URL": server.base_url,
            "MKA1_API_KEY": server.api_key,
        }
        said: dict[str, str] = {}
        for block in blocks(PAGE, "bash"):
            for line in block.splitlines():
                if line.startswith("export "):
                    for name, value in re.findall(r"(\w+)=(\S+)", line):
                        environment[name] = value.replace("$PWD", str(tmp_path))
                    continue
                ended = pasted(line, tmp_path, environment)
                assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
                said[line] = ended.stdout + ended.stderr
    assert (
        "3 days committed"
        in said["mka1-usage run --usage-only --start 2024-01-01 --end 2024-01-04"]
    )
    assert "3 days" in said["mka1-usage pull"]
    assert "2024-01-01" in said['mka1-usage sql "from usage_1d limit 3"']


def test_records_are_those_tables_that_the_page_says_have_a_day() -> None:
    without_time = {name for name, one in DATASETS.items() if one.partitioned_by is None}
    assert without_time == {*RECORD_DATASETS}
    assert all(f"`{name}`" in PAGE for name in without_time)
