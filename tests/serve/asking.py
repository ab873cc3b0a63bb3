"""The server as those who ask it see it.

Belongs here: starting one, a client of it, what both ask for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final

import httpx

from pipeline.api.usage import PATH
from pipeline.serve import Server, build_app
from pipeline.settings import load_settings
from pipeline.timeline import DAY, day_window

START: Final = day_window(date(2024, 1, 1)).start
DAYS: Final = 3
END: Final = START + DAYS * DAY
USERS: Final = ("user_0000", 'o"brien, "pat"', "ユーザー七", "it's;--\\n", "nobody")
KEYS: Final = ("planted-" + "5ec2e7" * 4, "another-" + "5ec2e7" * 4)


@contextmanager
def client(url: str, key: str | None = None) -> Iterator[httpx.Client]:
    """An HTTP client, with a bearer key or without."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    # Loading certificates takes longer than most of these tests.
    with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False) as http:
        yield http


@contextmanager
def serving(
    home: Path,
    *,
    keys: Sequence[str] = (),
    partial: bool = False,
    clock: Callable[[], float] = time.time,
    **settings: Any,
) -> Iterator[Server]:
    """A server over the home's lake, until the end of the block."""
    built = load_settings(home=home, serve_keys=keys, **settings)
    with Server(build_app(built, partial=partial, clock=clock)) as server:
        yield server


def ask(http: httpx.Client, query: str) -> httpx.Response:
    """The answer to a query string, as it is written."""
    return http.get(f"{PATH}?{query}")
