"""Documentation that is run: its fenced blocks, and a command as a reader pastes it.

Belongs here: finding and running. Does not belong here: what a page promises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from tests.bounded import finished


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def pasted(
    command: str, folder: Path | str, environment: Mapping[str, str]
) -> CompletedProcess[str]:
    """A command run by bash in a folder, whatever its exit code."""
    bash = ["bash", "-euo", "pipefail", "-c", command]
    return finished(bash, cwd=folder, env=environment, check=False)
