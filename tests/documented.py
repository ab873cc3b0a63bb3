"""Documentation that is run: its fenced blocks, and a command as a reader pastes it.

Belongs here: finding and running.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final
from unittest.mock import patch

from tests import fixtures_local
from tests.bounded import finished

FOR_A_SHELL: Final = re.compile(r"""[$`\\]|[|&;<>](?=(?:[^"]*"[^"]*")*[^"]*$)""")
"""What only a shell can do: expansion, and outside of double quotes operators."""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def pasted(
    command: str, folder: Path | str, environment: Mapping[str, str]
) -> CompletedProcess[str]:
    """A command as a reader pastes it in a folder, whatever its exit code.

    `mka1-usage`, also with variables before it, runs in this process where that needs no shell: a
    new process takes seconds to import.
    """
    program, *words = shlex.split(command)
    given = dict(environment)
    while "=" in program and words:
        name, _, value = program.partition("=")
        given[name] = value
        program, *words = words
    if program == "mka1-usage" and not FOR_A_SHELL.search(command):
        with patch.dict(os.environ, given, clear=True), chdir(folder):
            ended = fixtures_local.command(words)
        return CompletedProcess(command, ended.code, ended.text, ended.err)
    bash = ["bash", "-euo", "pipefail", "-c", command]
    return finished(bash, cwd=folder, env=environment, check=False)
