"""doctor, dagster-home: the commands about the place where the others run."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.exit_codes import FAILED, exit_codes
from pipeline.cli.options import one_of, stdout
from pipeline.settings import load_settings
from pipeline.terminal import printable, say

if TYPE_CHECKING:  # each command imports what it needs
    from pipeline.doctor import Finding, State

_COLOURS: Final[Mapping[State, str]] = {
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "skipped": "dim",
}


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file of the lake again, not a sample.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long one check may take.")
    ] = 10.0,
    form: Annotated[
        Literal["table", "json"],
        typer.Option("--format", help="How to print it.", **one_of("table", "json")),
    ] = "table",
) -> None:
    """Check settings, gateway, keys, clock, disk, lake, versions and Dagster: what is wrong, and
    how to fix it.

    It changes nothing. Exit code 1 if a check failed; warnings are none.
    """
    with exit_codes():
        from pipeline.doctor import examine
        from pipeline.doctor.configured import check_context

        out = stdout()
        found: list[Finding] = []
        for finding in examine(check_context(dict(os.environ), deep=deep, patience=patience)):
            found.append(finding)
            if form == "table":
                show(finding, out)
        if form == "json":
            # The key `mend` is public.
            facts = [{**asdict(one), "mend": one.fix} for one in found]
            for one in facts:
                del one["fix"]
            print(json.dumps(facts, ensure_ascii=False, indent=1))
        counted = Counter(finding.state for finding in found)
        words = ", ".join(f"{counted[state]} {state}" for state in _COLOURS if counted[state])
        say(words)
        sys.stdout.flush()
        if counted["failed"]:
            raise typer.Exit(FAILED)


def show(finding: Finding, out: Console) -> None:
    """Print a finding, and below it how to fix it."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=7)
    row.add_column(width=11)
    row.add_column(overflow="fold")
    words = Text(printable(finding.found))
    if finding.fix:
        words.append(f"\n-> {finding.fix}", style="bold" if finding.state == "failed" else "")
    row.add_row(Text(finding.state, style=_COLOURS[finding.state]), Text(finding.subject), words)
    out.print(row)


def dagster_home() -> None:
    """Print the folder in which Dagster keeps its runs, made ready where it is not.

    It gets a dagster.yaml where it has none: no telemetry, no sign-up dialog, and runs that read
    the API take turns, as many at a time as MKA1_USAGE_WORKERS says. For Dagster's own commands:
    export DAGSTER_HOME=$(mka1-usage dagster-home)
    """
    from pipeline.orchestration.instance import prepare

    with exit_codes():
        settings = load_settings()
        prepare(settings.dagster_home, settings.workers)
        print(settings.dagster_home)
