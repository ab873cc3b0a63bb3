"""What a check is given, and what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.settings import Settings

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, what was found, and how to fix it.

    Without a subject, it is about what its check is called.
    """

    state: State
    subject: str
    found: str
    fix: str = ""


def ok(found: str, subject: str = "") -> Finding:
    """All is well."""
    return Finding("ok", subject, found)


def warning(found: str, fix: str, subject: str = "") -> Finding:
    """It works, and could be better."""
    return Finding("warning", subject, found, fix)


def failed(found: str, fix: str, subject: str = "") -> Finding:
    """It does not work."""
    return Finding("failed", subject, found, fix)


def skipped(found: str) -> Finding:
    """There is nothing to look at."""
    return Finding("skipped", "", found)


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What checks look at. `settings` has the default of each setting that is `wrong`.

    `patience`: seconds that one check may take. `now`: the clock, in Unix seconds. `secrets`: what
    no finding may say, and what is said instead.
    """

    settings: Settings
    wrong: Mapping[str, str] = field(default_factory=dict[str, str])
    """Complaints by variable; `.env` where that can't be read."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    env_file: Path = Path(".env")
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    deep: bool = False
    patience: float = 10.0
    now: Callable[[], float] = time.time
