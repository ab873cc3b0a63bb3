"""`mka1-usage`: arguments in, exit codes out; a file per kind of command.

A command reads arguments and settings and calls what does the work, and imports heavy modules only
when it runs. Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the run failed,
2 bad arguments or settings, 128 + the number of the signal that ended it (130: Ctrl-C).
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Annotated, Final

import typer

from pipeline.cli.alerting import alerts, digest
from pipeline.cli.checking import probe, reconcile, status, verify
from pipeline.cli.dagster_dev import dagster
from pipeline.cli.emulating import emulator
from pipeline.cli.exit_codes import tolerant
from pipeline.cli.exporting import export
from pipeline.cli.forgetting import forget
from pipeline.cli.loading import demo, refresh, run
from pipeline.cli.naming import names
from pipeline.cli.operating import dagster_home, doctor
from pipeline.cli.pricing import budgets, prices
from pipeline.cli.querying import buckets, sql
from pipeline.cli.reporting import report
from pipeline.cli.retention import prune
from pipeline.cli.serving import serve
from pipeline.cli.sharing import expire, pull, push
from pipeline.cli.spark import rollup
from pipeline.settings import misspelt, read_env_file
from pipeline.terminal import say

app: Final = typer.Typer(
    name="mka1-usage",
    help="Usage analytics for MKA1: who used what, per minute, hour and day.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command, in_short in (
    (demo, "Try it without an account, on a made-up week."),
    (run, "Load, publish and check UTC days."),
    (status, "Show which days are loaded, stale or missing."),
    (rollup, "Make hours and days of a shared lake's minutes anew."),
    (refresh, "Find what the API has restated, and load it again."),
    (verify, "Re-read the lake, and name every file that is not what was published."),
    (reconcile, "Hold what is reported against what was observed."),
    (probe, "Add marked items, and see when usage counts them. Writes!"),
    (alerts, "Print what on-call wants to know."),
    (digest, "Print or send what the last week came to."),
    (budgets, "Show what is used of each budget, and left."),
    (buckets, "Print usage buckets as the API would."),
    (sql, "Query the published tables."),
    (export, "Write files for BI tools and spreadsheets."),
    (serve, "Answer HTTP as the API does, from the lake."),
    (report, "Write a page to look at and to send around."),
    (pull, "Make this home a copy of the shared lake."),
    (push, "Commit days that the shared lake does not have."),
    (expire, "Remove what nobody needs from the shared lake."),
    (emulator, "Serve a stand-in for the MKA1 API."),
    (dagster, "Open Dagster's page: graph, runs, schedules, alerts."),
    (prune, "Drop the minutes and hours of days that are old."),
    (forget, "Take a person out of all that is kept, and prove it."),
    (doctor, "Check the place where it runs, and say how to fix it."),
    (dagster_home, "Make Dagster's folder ready, and print it."),
):
    app.command(short_help=in_short)(command)
app.add_typer(prices, name="prices", short_help="Check what tokens cost.")
app.add_typer(names, name="names", short_help="Check what people call users, keys and teams.")


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"mka1-usage {version('mka1-usage')}")
        raise typer.Exit


@app.callback()
def _warn_of_slips(
    context: typer.Context,
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand == doctor.__name__:  # which has a finding for each
        return
    variables = {*os.environ}
    with suppress(OSError, UnicodeDecodeError):  # which reading the settings complains of
        variables |= read_env_file().keys()
    for name, near in misspelt(variables).items():
        shown = name if name.isprintable() else ascii(name)
        say(f"warning: {shown} is no setting, so it is ignored" + (f": {near}?" if near else ""))


def _open_what_is_closed() -> None:
    """Let what is written to a stream that whoever started this has closed (`2>&-`) be lost.

    Its number would be that of the next file that is opened, and messages would go to stdout.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            opened = os.fdopen(number, "w" if number else "r", encoding="utf-8")
            setattr(sys, name, opened)
            setattr(sys, f"__{name}__", opened)  # as Python itself keeps them


def main() -> None:
    """The console script."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character of some id gets it escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = tolerant(sys.stderr)
    os.umask(0o077)  # what is written is its owner's: Dagster's files too
    app()
