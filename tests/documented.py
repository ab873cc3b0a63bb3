"""Documentation that is run: its fenced blocks, and a command as a reader pastes it.

Belongs here: finding and running. Does not belong here: what a page promises.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def pasted(
    command: str, folder: Path | str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A command run by bash in a folder, whatever its exit code; given up after five minutes."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
