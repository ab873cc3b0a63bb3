"""What the tests of the edges (pages, ad-hoc SQL, the command line) start from.

Belongs here: a home folder with made-up days in it, and commands run in process with a clean
environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.emulator import EmulatorServer, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.settings import Settings
from pipeline.timeline import Window
from tests.truth import load

VARIABLES = tuple(str(field.validation_alias) for field in Settings.model_fields.values())


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Stdout as text."""
        return self.out.decode()


def published_home(home: Path, world: World, window: Window) -> Path:
    """`home` with the days of `window` loaded from `world`, and the catalog over them."""
    lake = Lake(home / "lake")
    with EmulatorServer(world) as server:
        load(server, lake, window.days)
    build_catalog(lake, home / "usage.duckdb")
    return home


def clean_environment(patch: pytest.MonkeyPatch, folder: Path, settings: Mapping[str, str]) -> None:
    """Only these settings, and an empty current folder without a `.env`."""
    for name in VARIABLES:
        patch.setenv(name, "")  # set, so that what a command sets itself is undone too
    for name, value in settings.items():
        patch.setenv(name, value)
    patch.chdir(folder)


def command(args: Sequence[str]) -> Ended:
    """Run `mka1-usage` with `args` in this process."""
    result = CliRunner().invoke(app, list(args))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout_bytes, result.stderr)
