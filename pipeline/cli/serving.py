"""serve: the command that answers HTTP as the API does."""

from __future__ import annotations

import sys
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.damage import nothing_loaded
from pipeline.cli.exit_codes import exit_codes
from pipeline.cli.options import Partial
from pipeline.cli.sharing import say_age
from pipeline.interrupts import interrupts
from pipeline.settings import Settings, load_settings
from pipeline.terminal import say, short
from pipeline.timeline import day_window

if TYPE_CHECKING:
    from pipeline.lake.store import Lake

_CONNECTIONS: Final = 16_384
_TURN: Final = 0.001
"""Seconds after which threads that make pages let in the one that answers, which asks several times
a request. Python's own 5 ms made it wait for 25."""


def serve(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes any that is free.")
    ] = 8788,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="IP address to listen on; 0.0.0.0 is all.")
    ] = "127.0.0.1",
    partial: Partial = False,
) -> None:
    """Answer GET /api/v1/llm/usage/conversations from the lake, exactly as the API does.

    A browser gets the report at /, for any period, time zone, user, key, model and team.

    A tool written for the API needs another base URL and nothing else. It is let in with one of the
    bearer keys of MKA1_USAGE_SERVE_KEYS; where none is set, from this machine without a key.
    """
    from pipeline.lake.store import Lake
    from pipeline.serve import Server, build_app
    from pipeline.serve.live import warm_up

    with exit_codes():
        settings = load_settings()
        host = _checked(host, settings)
        lake = Lake(settings.lake)
        say_age(settings, lake)
        days = lake.days("usage_1d")
        if not days:
            nothing_loaded(settings.lake)
        app = build_app(settings, partial=partial, pulled_at=lambda: _pulled_at(lake))
        server = Server(app, host, port)
        _let_in_many()
        sys.setswitchinterval(_TURN)
        asked = f"?start_time={day_window(days[-1]).start}&bucket_width=1h"

        def ready() -> None:
            _announce(settings, server.url, asked)
            Thread(target=warm_up, name="warming up").start()

        with suppress(KeyboardInterrupt), interrupts():  # which is how to stop it
            server.run(ready)


def _pulled_at(lake: Lake) -> float | None:
    from pipeline.shared_lake import copied

    copy = copied(lake)
    return copy.at if copy else None


def _announce(settings: Settings, url: str, asked: str) -> None:
    bearer = ' -H "Authorization: Bearer $KEY"' if settings.serve_keys else ""
    say(
        f"serving {short(settings.lake)} on {url} until Ctrl-C, to "
        f"{'those who have a key' if settings.serve_keys else 'this machine only'}; "
        "in another terminal:\n"
        f'  curl{bearer} "{url}/api/v1/llm/usage/conversations{asked}"\n'
        f"or, in a browser, the report: {url}/"
        f"{' (the password is a key)' if settings.serve_keys else ''}"
    )


def _checked(host: str, settings: Settings) -> str:
    """The address to listen on; typer.BadParameter where it is none, or open to others unlocked."""
    address = {"localhost": "127.0.0.1"}.get(host, host.strip("[]"))
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        raise typer.BadParameter(
            f"--host is {host!r}: it must be an IP address of this machine, such as 0.0.0.0"
        ) from None
    if not loopback and not settings.serve_keys:
        raise typer.BadParameter(
            f"--host {host} lets other machines in: set MKA1_USAGE_SERVE_KEYS to the keys that "
            "they are to have (secret,secret), or leave --host away"
        )
    return address


def _let_in_many() -> None:
    """Connections by the thousand, where the machine allows it: shells begin with some 1,000."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if most == resource.RLIM_INFINITY else min(most, _CONNECTIONS)
    with suppress(OSError, ValueError):  # a system may allow less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
