"""dagster: the command that shows the lake in Dagster, or made-up days that go on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail, interruptible
from pipeline.cli.loading import report_outcome
from pipeline.interrupts import interrupts
from pipeline.messages import be, count
from pipeline.settings import Settings, load_settings
from pipeline.terminal import say, short
from pipeline.timeline import closed_through, day_of, day_range, day_window

_WEEK: Final = 7
"""Made-up days that are over when the demo is begun."""
_DAYS: Final = 28
"""All made-up days: those that follow happen as time goes on."""
_DEMO: Final = "demo-dagster"
"""The demo's home, in the home folder."""
_FIRST_DAY: Final = "first-day"
"""The file of the demo's home that says when its days begin, for the next start."""


def dagster(
    demo: Annotated[
        bool, typer.Option("--demo", help="Over made-up days that end now, without an account.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes any that is free.")
    ] = 3000,
) -> None:
    """Open Dagster's page: graph, partitions, checks, schedules and alerts. Ctrl-C ends it.

    It makes Dagster's folder ready, starts `dagster dev` over it, and says where the page is. With
    --demo the emulator runs behind it: a made-up week is loaded first, into a home of its own, and
    traffic goes on while you look.
    """
    from pipeline.orchestration.dev import BusyError, alone, free_port

    with exit_codes():
        port = free_port(port)
        settings = load_settings()
        home = settings.home / _DEMO
        try:
            with alone(home / "dagster" if demo else settings.dagster_home):
                if demo:
                    with _made_up_days(home) as made_up:
                        _serve(made_up, environment_of(made_up), home, port)
                else:
                    _note_without_key(settings)
                    _serve(settings, dict(os.environ), Path.cwd(), port)
        except BusyError as error:
            fail(str(error), FAILED)


def _note_without_key(settings: Settings) -> None:
    if settings.api_key is None:
        say(
            "note: MKA1_API_KEY is not set, so no run can load: set it, or take --demo, "
            "which needs none"
        )


def _serve(settings: Settings, environment: Mapping[str, str], folder: Path, port: int) -> None:
    """Run Dagster until a signal comes."""
    from pipeline.orchestration import instance
    from pipeline.orchestration.dev import DagsterDevError, dagster_dev

    instance.prepare(settings.dagster_home, settings.workers)
    try:
        lost = instance.fail_lost_runs(settings.dagster_home)
    except instance.STORAGE_ERRORS as error:
        fail(": ".join(instance.storage_failure(error, settings.dagster_home)), FAILED)
    if lost:
        say(f"{count(lost, 'run')} that ended with the last Dagster {be(lost)} recorded as failed")
    with (
        suppress(KeyboardInterrupt),  # which is how to stop it
        interrupts(),
        instance.readable(settings.dagster_home) as home,
        dagster_dev({**environment, "DAGSTER_HOME": str(home)}, folder, port) as dev,
    ):
        try:
            say("starting Dagster, which takes some seconds")
            dev.wait_until_loaded()
            say(
                f"Dagster shows {short(settings.lake)} on {dev.url} until Ctrl-C; switch schedules "
                "and the alerts' sensor on there, under Automation"
            )
            dev.wait()
        except KeyboardInterrupt:
            say("ending Dagster and its runs; Ctrl-C again ends them at once")
            raise
        except DagsterDevError as error:
            fail(str(error), FAILED)


@contextmanager
def _made_up_days(home: Path) -> Iterator[Settings]:
    """Serve made-up days from the emulator, and load those that are not loaded yet into `home`."""
    from pipeline.cli.tour import demo_settings, load_demo
    from pipeline.emulator import EmulatorServer, synthetic_world

    today = day_of(closed_through(time.time()) - 1)
    first = first_day(home, today)
    world = synthetic_world(start=day_window(first).start, days=_DAYS)
    with EmulatorServer(world) as server:
        settings = demo_settings(server, home, first)
        begin = first_to_load(settings.lake, first, today)
        say(f"loading made-up days, {begin} to {today}, served by the embedded emulator")
        kept = "the days published so far are kept; run the same again to go on"
        with interruptible(kept) as interrupted:
            outcome = load_demo(settings, begin, today, Console(stderr=True))
            if interrupted():
                raise KeyboardInterrupt
        report_outcome(outcome)
        yield settings


def first_day(home: Path, today: date) -> date:
    """When the made-up days begin: a week before the first start of the demo."""
    noted = home / _FIRST_DAY
    if not noted.exists():
        noted.write_text(f"{today - timedelta(days=_WEEK)}\n", encoding="utf-8")
    try:
        first = date.fromisoformat(noted.read_text(encoding="utf-8").strip())
    except ValueError:
        fail(f"{short(noted)} holds no date: remove {short(home)} to begin a new demo", MISUSED)
    if not first <= today < first + timedelta(days=_DAYS):
        fail(
            f"the made-up days of {short(home)} began on {first} and are over: remove that folder "
            "to begin a new demo",
            MISUSED,
        )
    return first


def first_to_load(folder: Path, first: date, today: date) -> date:
    """From which of the made-up days on they are to be loaded into a lake: the last that is there
    with its conversations, and all before it. It may be there in part."""
    from pipeline.lake.store import Lake

    lake = Lake(folder)
    done = {*lake.days("usage_1d")}.intersection(lake.days("observed_1d"))
    following = pairwise(day_range(first, today))
    return next((day for day, after in following if not {day, after} <= done), today)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment with the demo's settings in place of all others: no real key gets in."""
    environment = {
        name: value for name, value in os.environ.items() if not name.upper().startswith("MKA1_")
    }
    if settings.pseudonym_key is not None:
        environment["MKA1_USAGE_PSEUDONYM_KEY"] = settings.pseudonym_key.get_secret_value()
    keys = {key: secret.get_secret_value() for key, secret in settings.api_keys.items()}
    return {
        **environment,
        "MKA1_BASE_URL": settings.base_url,
        "MKA1_API_KEY": settings.key().get_secret_value(),
        "MKA1_API_KEYS": ",".join(f"{key}={secret}" for key, secret in keys.items()),
        "MKA1_USAGE_HOME": str(settings.home),
        "MKA1_USAGE_FIRST_DAY": f"{settings.first_day}",
        "MKA1_USAGE_REQUESTS_PER_SECOND": f"{settings.requests_per_second:g}",
        "MKA1_USAGE_ENDPOINTS": ",".join(settings.endpoints),
    }
