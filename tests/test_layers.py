"""The layers are contracts that a tool checks: a wrong import breaks the contract that forbids it.

That the code keeps all of them, `.ci/run` checks with the same command.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.bounded import finished

ROOT: Final = Path(__file__).parents[1]
CONTRACTS: Final = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
]
PLANTED: Final = {
    "api/clock": "pipeline.lake.store",
    "api/fields": "pipeline.settings",
    "lake/files": "httpx",
    "lake/engine": "dagster",
    "timeline": "pipeline.settings",
    "query/status": "pipeline.lake.commit",
    "pricing/prices": "pipeline.api.client",
    "emulator/clock": "pipeline.timeline",
}
"""A module, and what it must not import: for each contract one at least."""


@pytest.mark.slow
def test_a_wrong_import_breaks_its_contract(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, wrong in PLANTED.items():
        with (tmp_path / "pipeline" / f"{module}.py").open("a") as file:
            file.write(f"\nimport {wrong}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    ended = finished(
        [linter, "--no-cache"], check=False, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert ended.returncode == 1
    said = re.sub(r"\s+", " ", ended.stdout)
    assert [name for name in CONTRACTS if f"{name} BROKEN" not in said] == []
    for module, wrong in PLANTED.items():
        assert f"pipeline.{module.replace('/', '.')} -> {wrong}" in said
