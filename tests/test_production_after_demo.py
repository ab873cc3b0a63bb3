"""The commands of docs/operations.md for Dagster work after README's first line alone.

That line has left the demo's home folder and nothing else. Every process is ended within a bound.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import dagster as dg
import httpx
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef

from pipeline.orchestration.instance import prepare
from tests.bounded import started
from tests.documented import blocks, pasted
from tests.fixtures_local import clean_environment, command

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
BIN: Final = Path(sys.executable).parent
PAGE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SECTION: Final = PAGE.partition("\n## In Dagster\n")[2].partition("\n## ")[0]
NO_ACCOUNT, COMMANDS = blocks(SECTION, "bash")
BOUND: Final = 180.0
"""Seconds that a process may take to get ready; a machine that runs tests may be slow."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what these commands read of a clone."""
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def environment(clone: Path) -> Mapping[str, str]:
    kept = {name: it for name, it in os.environ.items() if not name.startswith(("MKA1", "DAGSTER"))}
    return {**kept, "HOME": str(clone), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def ready(
    script: str, until: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[list[str]]:
    """What a script has said up to the line that says it serves; then it is ended as by Ctrl-C."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = ["bash", "-euo", "pipefail", "-c", script]
    with started(command, seconds=BOUND, cwd=folder, env=environment, **pipes) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if until in line:
                break
        else:
            pytest.fail("".join(said))
        yield said


@pytest.mark.slow  # the demo, an emulator, a job and a web server
def test_the_commands_work_one_after_another_without_an_account(
    clone: Path, environment: Mapping[str, str], unused_port: int
) -> None:
    demo = re.search(r"^python3 -m venv .* && \.venv/bin/(mka1-usage demo)$", README, re.MULTILINE)
    assert demo
    assert pasted(demo[1], clone, environment).returncode == 0
    assert not (clone / "data" / "dagster").exists()
    assert "start `mka1-usage emulator` in another terminal" in SECTION
    with ExitStack() as stack:
        emulator = "exec mka1-usage emulator --port 0"
        (said,) = stack.enter_context(ready(emulator, "serving on", clone, environment))
        url = re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        *others, dev = COMMANDS.splitlines()
        assert "http://127.0.0.1:8787" in NO_ACCOUNT
        lines = [
            NO_ACCOUNT.replace("http://127.0.0.1:8787", url),
            *others,
            f"exec {dev} --port {unused_port}",
        ]
        words = stack.enter_context(
            ready("\n".join(lines), "Serving dagster-webserver on", clone, environment)
        )
        assert "Traceback" not in "".join(words)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{unused_port}",
            transport=httpx.HTTPTransport(retries=8),
            timeout=60,
        ) as page:
            asked = "{ shouldShowNux workspaceOrError { __typename ... on Workspace "
            asked += "{ locationEntries { name locationOrLoadError { __typename } } } } }"
            answer = page.post("/graphql", json={"query": asked}).json()["data"]
            assert answer["shouldShowNux"] is False, "a dialog covers the page"
            (location,) = answer["workspaceOrError"]["locationEntries"]
            assert location["name"] == "mka1_usage"
            assert location["locationOrLoadError"]["__typename"] == "RepositoryLocation"
            assert re.search(r'"telemetryEnabled": *"?false', page.get("/").text)
    with dg.DagsterInstance.from_config(str(clone / "data" / "demo" / "dagster")) as instance:
        runs = [run.status.value for run in instance.get_runs()]
    assert runs == ["SUCCESS"] * 4, "the two of the demo, the job's and the assets'"
    assert {path.name for path in (clone / "data").iterdir()} == {"demo"}


# Dagster's folder


@pytest.mark.parametrize("given", [{}, {"DAGSTER_HOME": "runs/dagster"}], ids=["unset", "set"])
def test_the_folder_is_made_ready_and_printed(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch, tmp_path, given)
    ended = command(["dagster-home"])
    folder = tmp_path / given.get("DAGSTER_HOME", "data/dagster")
    assert (ended.code, ended.text, ended.err) == (0, f"{folder}\n", "")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
    (folder / "dagster.yaml").write_text("# mine\n")
    assert command(["dagster-home"]).code == 0
    assert (folder / "dagster.yaml").read_text() == "# mine\n"


def test_dagster_dev_without_a_folder_has_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare(tmp_path / "made")
    made, here = (
        yaml.safe_load((folder / "dagster.yaml").read_text(encoding="utf-8"))
        for folder in (tmp_path / "made", ROOT)
    )
    assert here == made
    # It keeps a temporary folder, and takes the settings from the one where it is started.
    kept = tmp_path / "temporary"
    kept.mkdir()
    ref = InstanceRef.from_dir(str(kept), config_dir=str(ROOT))
    with dg.DagsterInstance.from_ref(ref) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
