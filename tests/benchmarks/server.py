"""The canned usage endpoint that all contenders of the ingest benchmark page through.

A process of its own that renders the result rows of three days of minutes once, and answers
``GET /api/v1/llm/usage/conversations`` by joining those bytes, so that what is measured is the
contender and not the server. It behaves well: no faults, no limits, no gaps. How the real API
misbehaves is the emulator's subject, not this one's.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.benchmarks.measure import REPOSITORY

USAGE_PATH: Final = "/api/v1/llm/usage/conversations"
MOST_BUCKETS: Final = 1440
RENDERED_DAYS: Final = 3
WINDOW_START: Final = 1_704_067_200
"""2024-01-01T00:00:00Z, in Unix seconds: where the days that contenders ask for begin."""

_MINUTES: Final = RENDERED_DAYS * 1440
_USERS: Final = 1000
_KEYS: Final = 5
_ROWS_A_MINUTE: Final = (150, 250)
_AT_HOME: Final = 0.95
"""Share of a user's rows under one key, the user's own: an end user mostly uses one application."""
_SEED: Final = 20240101
WIDTHS: Final = {"1m": 60, "1h": 3600, "1d": 86400}

Totals = tuple[int, int, int]


@dataclass(frozen=True)
class Canned:
    """Three days of minutes, rendered: the same three days are served again for any later time."""

    results: list[bytes]
    """By minute: the JSON of the bucket's ``results``, grouped by user and key."""
    by_key: list[dict[str, Totals]]
    """By minute and key: conversations created, items added, operations."""
    rows: int
    restated: set[int] = field(default_factory=set[int])
    """Unix seconds of the minutes in which another user is counted now."""

    def restate(self, minutes: Iterable[int]) -> None:
        """Count another user in these minutes from now on, and in no others."""
        self.restated.clear()
        self.restated.update(minutes)


def render() -> Canned:
    """Render the result rows of three days from a fixed seed: the same bytes on every call."""
    draw = random.Random(_SEED).random
    sample = random.Random(_SEED + 1).sample
    row = (
        '{{"object":"organization.usage.conversations.result","num_conversations_created":{},'
        '"num_items_added":{},"num_operations":{},"user_id":"{}","api_key_id":"{}"}}'
    ).format
    fewest, most = _ROWS_A_MINUTE
    identify = random.Random(_SEED + 2).getrandbits
    user_ids = [f"user_{identify(64):016x}" for _ in range(_USERS)]
    key_ids = [f"key_{identify(64):016x}" for _ in range(_KEYS)]
    home = {user: key_ids[number % _KEYS] for number, user in enumerate(user_ids)}
    results: list[bytes] = []
    by_key: list[dict[str, Totals]] = []
    rows = 0
    for _ in range(_MINUTES):
        users = sample(user_ids, fewest + int(draw() * (most - fewest + 1)))
        created = [int(draw() * 4) for _ in users]
        added = [int(draw() * 40) for _ in users]
        operations = [int(draw() * 400) for _ in users]
        keys = [home[user] if draw() < _AT_HOME else key_ids[int(draw() * _KEYS)] for user in users]
        body = ",".join(map(row, created, added, operations, users, keys))
        results.append(f"[{body}]".encode())
        of_minute: dict[str, Totals] = {}
        for key, *counts in zip(keys, created, added, operations, strict=True):
            before = of_minute.get(key, (0, 0, 0))
            of_minute[key] = (before[0] + counts[0], before[1] + counts[1], before[2] + counts[2])
        by_key.append(of_minute)
        rows += len(users)
    return Canned(results, by_key, rows)


_LATE: Final = ("another_user", "another_key", (0, 0, 1))
"""Who is counted in a minute that is restated."""


def _row(user: str | None, key: str | None, counts: Totals) -> str:
    names = ("num_conversations_created", "num_items_added", "num_operations")
    of = {
        "object": "organization.usage.conversations.result",
        **dict(zip(names, counts, strict=True)),
    }
    return json.dumps({**of, "user_id": user, "api_key_id": key}, separators=(",", ":"))


def _bucket(canned: Canned, start: int, width: int, groups: set[str]) -> bytes:
    """The JSON of one bucket of ``width`` seconds from ``start``: minutes by user and key, wider
    ones by key or in total."""
    restated = sum(minute in canned.restated for minute in range(start, start + width, 60))
    first = (start - WINDOW_START) // 60
    if "user_id" in groups:
        results = canned.results[first % _MINUTES]
        if restated:
            results = results[:-1] + f",{_row(*_LATE)}]".encode()
    else:
        sums: dict[str | None, list[int]] = {}
        of_minutes = [
            canned.by_key[i % _MINUTES].items() for i in range(first, first + width // 60)
        ]
        late = [(_LATE[1], _LATE[2])] * restated
        for key, counts in (*chain.from_iterable(of_minutes), *late):
            found = sums.setdefault(key if groups else None, [0, 0, 0])
            for place, count in enumerate(counts):
                found[place] += count
        rows = [_row(None, key, (one[0], one[1], one[2])) for key, one in sums.items()]
        results = f"[{','.join(rows)}]".encode()
    return b'{"object":"bucket","start_time":%d,"end_time":%d,"results":%b}' % (
        start,
        start + width,
        results,
    )


def page(canned: Canned, query: str) -> bytes:
    """Answer a query string as the usage endpoint does.

    Minutes are served by user and key, hours and days by key or in total, which is all that
    contenders ask for. Raises ``ValueError`` for anything else, and for times that are not on
    bucket edges.
    """
    asked = parse_qs(query)
    width = WIDTHS[asked.get("bucket_width", ["1d"])[0]]
    start, end = int(asked["start_time"][0]), int(asked["end_time"][0])
    limit = int(asked["limit"][0])
    groups = {name for value in asked.get("group_by", []) for name in value.split(",")}
    if start % width or end % width or not 1 <= limit <= MOST_BUCKETS:
        raise ValueError("start_time and end_time must be on bucket edges, limit within 1 to 1440")
    served = [{"user_id", "api_key_id"}] if width == 60 else [set(), {"api_key_id"}]
    if "user_ids" in asked or groups not in served:
        raise ValueError("minutes are canned by user_id and api_key_id, others by key or in total")
    if "page" in asked:
        start = int(asked["page"][0].removeprefix("at:"))
    until = min(end, start + limit * width)
    data = b",".join(_bucket(canned, at, width, groups) for at in range(start, until, width))
    if until < end:
        return b'{"object":"page","data":[%b],"has_more":true,"next_page":"at:%d"}' % (data, until)
    return b'{"object":"page","data":[%b],"has_more":false,"next_page":null}' % data


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, page: Callable[[str], bytes], restate: Callable[[Iterable[int]], None]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = page
        self.restate = restate
        self.lock = threading.Lock()
        self.first_request = 0.0
        self.requests = 0
        self.rows = 0
        self.bytes = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that breaks off an answer: it asks for a smaller one."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def count(self, arrived: float, body: bytes) -> None:
        with self.lock:
            if self.requests == 0 or arrived < self.first_request:
                self.first_request = arrived
            self.requests += 1
            self.rows += body.count(b'"object":"organization.usage.conversations.result"')
            self.bytes += len(body)

    def take_counts(self) -> bytes:
        with self.lock:
            counts = {
                "first_request": self.first_request,
                "requests": self.requests,
                "rows": self.rows,
                "bytes": self.bytes,
            }
            self.first_request, self.requests, self.rows, self.bytes = 0.0, 0, 0, 0
        return json.dumps(counts).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        arrived = time.monotonic()
        assert isinstance(self.server, _Server)
        url = urlsplit(self.path)
        if url.path == "/counts":
            self._answer(200, self.server.take_counts())
            return
        if url.path == "/restate":
            minutes = parse_qs(url.query).get("minute", [])
            self.server.restate(map(int, minutes))
            self._answer(200, b"{}")
            return
        if url.path != USAGE_PATH:
            self._answer(404, b'{"error":"not served here"}')
            return
        try:
            body = self.server.page(url.query)
        except (KeyError, ValueError) as error:
            self._answer(400, json.dumps({"error": repr(error)}).encode())
            return
        # Counted before it is sent: whoever has read the answer finds it in the counts.
        self.server.count(arrived, body)
        self._answer(200, body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line for each request would be in the measurements."""


@dataclass(frozen=True)
class Counts:
    """What was asked of the server since the counts were last taken."""

    first_request: float
    """When the first usage request arrived, on ``time.monotonic``'s clock, which Linux, macOS and
    Windows keep for the machine and not for the process."""
    requests: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Served:
    """A running server, seen from the benchmark."""

    url: str
    rows: int
    """Result rows in each three days."""
    operations: int
    """Sum of ``num_operations`` over those rows."""

    def take_counts(self) -> Counts:
        """What was asked since the last call; starts over."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=30) as answer:
            return Counts(**json.load(answer))

    def restate(self, minutes: Iterable[int]) -> None:
        """Count another user in these minutes (Unix seconds) from now on, and in no others."""
        query = urlencode({"minute": [*minutes]}, doseq=True)
        with urllib.request.urlopen(f"{self.url}/restate?{query}", timeout=30) as answer:
            answer.read()


@contextlib.contextmanager
def serving(module: str = "tests.benchmarks.server", *options: str) -> Generator[Served]:
    """Run the server in its own process on a free loopback port until the block ends."""
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                raise RuntimeError(f"the canned server ended with exit code {process.wait()}")
            yield Served(**json.loads(ready))
        finally:
            process.terminate()


def serve(
    page: Callable[[str], bytes],
    rows: int,
    operations: int,
    restate: Callable[[Iterable[int]], None] = lambda _: None,
) -> None:
    """Answer query strings by `page`, on a free port that is said on standard output."""
    server = _Server(page, restate)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"url": url, "rows": rows, "operations": operations}), flush=True)
    server.serve_forever()


def main() -> None:
    """Render, say on standard output where and what is served, and serve until terminated."""
    canned = render()
    operations = sum(total[2] for by_key in canned.by_key for total in by_key.values())
    serve(partial(page, canned), canned.rows, operations, canned.restate)


if __name__ == "__main__":
    main()
