"""The Dagster instance below the home folder: where runs started here are kept.

Belongs here: DAGSTER_HOME and its first `dagster.yaml`. Does not belong here: definitions.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import dagster as dg

from pipeline.lake.store import private_folder
from pipeline.settings import SettingsError

_MISREAD: Final = re.compile(r"[%?*\[\x00-\x1f\x7f\udc80-\udcff]")

_DAGSTER_YAML: Final = """\
# Written once by mka1-usage; yours to change. Reference: Dagster's "dagster.yaml" page.
telemetry:
  enabled: false
compute_logs:
  # What a step says is in the event log. Copying its stdout and stderr to files too would take
  # the terminal away from the progress bar, and start two more processes for each step.
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
nux:
  enabled: false # no sign-up dialog over the first page
concurrency:
  # Runs that read the API take turns: they share its quota. `run`, not `op`: a killed process
  # would leave an op's slot taken.
  pools:
    granularity: run
    default_limit: 1
  runs:
    max_concurrent_runs: 4
"""


def prepare(dagster_home: Path) -> None:
    """Make the folder and its `dagster.yaml` where there are none, and point Dagster at it.

    Raises OSError, with what to set, where the folder can't be made or written.
    """
    config = dagster_home / "dagster.yaml"
    try:
        private_folder(dagster_home)
        if not config.exists():
            config.write_text(_DAGSTER_YAML, encoding="utf-8")
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: set MKA1_USAGE_HOME (or DAGSTER_HOME) to a folder that can be "
            "written to",
            str(dagster_home),
        ) from error
    os.environ["DAGSTER_HOME"] = str(dagster_home)


@contextmanager
def opened(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a Dagster home that is there.

    Where Dagster would misread the path, it is given another one to the same folder. SettingsError
    where there is none.
    """
    with ExitStack() as stack:
        home = dagster_home
        if misread(dagster_home):
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="mka1-usage-"))
            home = Path(temporary) / "dagster"
            home.symlink_to(dagster_home)
            if sign := misread(home):
                raise SettingsError(
                    f"TMPDIR holds {sign!r}, as DAGSTER_HOME does, which Dagster can't use in a "
                    "path: set one of the two to another folder"
                )
        yield stack.enter_context(dg.DagsterInstance.from_config(str(home)))


def misread(dagster_home: Path) -> str | None:
    """The character of a path that makes Dagster misread it; None where there is none.

    It makes a URL of the path of its databases, and a pattern of that of `dagster.yaml`.
    """
    found = _MISREAD.search(str(dagster_home))
    return found.group() if found else None
