"""emulator: the command that stands in for the API."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.exit_codes import FAILED, MISUSED, fail
from pipeline.cli.options import as_time
from pipeline.interrupts import interrupts
from pipeline.terminal import in_words, say
from pipeline.timeline import day_of


def emulator(
    port: Annotated[
        int,
        typer.Option(min=0, max=65_535, metavar="PORT", help="On loopback; 0 takes a free one."),
    ] = 8787,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay this trace of real traffic instead.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same traffic.")] = 0,
    days: Annotated[int, typer.Option(min=1, max=3660, metavar="N", help="Days of traffic.")] = 7,
    users: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Number of users.")
    ] = 50,
    start: Annotated[
        int | None,
        typer.Option(parser=as_time, metavar="TIME", help="First day; 2024-01-01 by default."),
    ] = None,
) -> None:
    """Serve a stand-in for the MKA1 API on this machine, with made-up or replayed traffic."""
    from pipeline.emulator import START_2024, EmulatorServer, synthetic_world, trace_world

    first = START_2024 if start is None else start
    try:
        world = (
            synthetic_world(seed=seed, start=first, days=days, users=users)
            if trace is None
            else trace_world(trace, start=first)
        )
        server = EmulatorServer(world, port=port)
        last = max((event.second for event in world.events()), default=first)
        example = f"--start {day_of(first)} --end {day_of(last) + timedelta(days=1)}"
        with suppress(KeyboardInterrupt), interrupts():  # which is how to stop it
            server.run(lambda url: _announce(url, server.api_key, server.api_keys, example))
    except ValueError as error:
        fail(str(error), MISUSED)
    except OSError as error:
        fail(in_words(error), FAILED)


def _announce(url: str, api_key: str, api_keys: dict[str, str], example: str) -> None:
    ring = ",".join(f"{key_id}={secret}" for key_id, secret in api_keys.items())
    say(
        f"serving on {url} until Ctrl-C; in another terminal:\n"
        f"  export MKA1_BASE_URL={url} MKA1_API_KEY={api_key}\n"
        f"  export MKA1_API_KEYS={ring}\n"
        f"  mka1-usage run {example}"
    )
