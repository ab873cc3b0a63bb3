"""alerts: what on-call wants to know."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from pipeline.cli.damage import reading
from pipeline.cli.exit_codes import FAILED, exit_codes, fail
from pipeline.cli.options import as_time
from pipeline.settings import load_settings
from pipeline.terminal import say, short


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

    Late data, a user or key far above its own baseline, a measure that fell to zero, a model that
    fails, a budget that is used. Exit code 1 if any of it is an error, 0 for warnings.
    """
    with exit_codes():
        settings = load_settings()
        from pipeline.alerts.evaluate import evaluate
        from pipeline.alerts.lateness import NOTHING
        from pipeline.lake.store import Lake

        lake = Lake(settings.lake, settings.lookback_days, settings.memory)
        now = time.time() if at is None else float(at)
        with reading(lake):
            found = evaluate(lake, settings.thresholds, now, files=settings)
        if found["late"].unjudged == NOTHING and not found["late"].broken:
            fail(f"nothing is loaded in {short(settings.lake)}: `mka1-usage run` loads", FAILED)
        for alert, evaluation in found.items():
            for finding in evaluation.findings:
                print(f"{finding.severity}: {finding.line}")
            if evaluation.more:
                say(f"{alert}: {evaluation.more:,} more were found")
            if evaluation.broken:
                say(f"error: {alert}: {evaluation.broken}")
            if evaluation.unjudged and sys.stderr.isatty():  # whom cron mails, it is no news
                say(f"{alert}: not judged: {evaluation.unjudged}")
        if sys.stderr.isatty() and not any(evaluation.lines for evaluation in found.values()):
            say("nothing to report")
        if any(evaluation.severity == "error" for evaluation in found.values()):
            sys.stdout.flush()
            raise typer.Exit(FAILED)
