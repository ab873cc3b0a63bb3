"""alerts: the command that says what on-call wants to know.

Belongs here: arguments and exit codes.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from pipeline.cli.damage import reading
from pipeline.cli.options import as_time
from pipeline.settings import load_settings
from pipeline.terminal import FAILED, exit_codes, fail, say, short


def alerts(
    at: Annotated[
        int | None,
        typer.Option(
            parser=as_time,
            metavar="TIME",
            help="Look as if it were then: ISO date, ISO time (UTC) or Unix seconds.",
        ),
    ] = None,
) -> None:
    """Print what on-call wants to know, a line each: nothing where all is well.

    Late data, a user or key far above its own baseline, a measure that fell to zero. Exit code 1 if
    any of it is an error, 0 for warnings.
    """
    with exit_codes():
        settings = load_settings()
        from pipeline.alerts.lateness import NOTHING
        from pipeline.alerts.looking import look
        from pipeline.lake.store import Lake

        lake = Lake(settings.lake, settings.lookback_days)
        now = time.time() if at is None else float(at)
        with reading(lake):
            found = look(lake, settings.thresholds, now)
        if found["late"].unjudged == NOTHING and not found["late"].broken:
            fail(f"nothing is loaded in {short(settings.lake)}: `mka1-usage run` loads", FAILED)
        for alert, looked in found.items():
            for finding in looked.findings:
                print(f"{finding.severity}: {finding.line}")
            if looked.more:
                say(f"{alert}: {looked.more:,} more were found")
            if looked.broken:
                say(f"error: {alert}: {looked.broken}")
            if looked.unjudged and sys.stderr.isatty():  # whom cron mails, it is no news
                say(f"{alert}: not judged: {looked.unjudged}")
        if sys.stderr.isatty() and not any(looked.lines for looked in found.values()):
            say("nothing to report")
        if any(looked.severity == "error" for looked in found.values()):
            sys.stdout.flush()
            raise typer.Exit(FAILED)
