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
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

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
    totals: list[Totals]
    """By minute: conversations created, items added, operations."""
    rows: int


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
    totals: list[Totals] = []
    rows = 0
    for _ in range(_MINUTES):
        users = sample(user_ids, fewest + int(draw() * (most - fewest + 1)))
        created = [int(draw() * 4) for _ in users]
        added = [int(draw() * 40) for _ in users]
        operations = [int(draw() * 400) for _ in users]
        keys = [home[user] if draw() < _AT_HOME else key_ids[int(draw() * _KEYS)] for user in users]
        body = ",".join(map(row, created, added, operations, users, keys))
        results.append(f"[{body}]".encode())
        totals.append((sum(created), sum(added), sum(operations)))
        rows += len(users)
    return Canned(results, totals, rows)


def _bucket(canned: Canned, start: int, width: int, grouped: bool) -> bytes:
    """The JSON of one bucket of ``width`` seconds from ``start``, by user and key or in total."""
    first = (start - WINDOW_START) // 60
    if grouped:
        results = canned.results[first % _MINUTES]
    else:
        minutes = [canned.totals[i % _MINUTES] for i in range(first, first + width // 60)]
        created, added, operations = (sum(column) for column in zip(*minutes, strict=True))
        results = (
            b'[{"object":"organization.usage.conversations.result","num_conversations_created":%d,'
            b'"num_items_added":%d,"num_operations":%d,"user_id":null,"api_key_id":null}]'
            % (created, added, operations)
        )
    return b'{"object":"bucket","start_time":%d,"end_time":%d,"results":%b}' % (
        start,
        start + width,
        results,
    )


def page(canned: Canned, query: str) -> bytes:
    """Answer a query string as the usage endpoint does.

    Minutes are served by user and key, hours and days in total, which is all that contenders ask
    for. Raises ``ValueError`` for anything else, and for times that are not on bucket edges.
    """
    asked = parse_qs(query)
    width = WIDTHS[asked.get("bucket_width", ["1d"])[0]]
    start, end = int(asked["start_time"][0]), int(asked["end_time"][0])
    limit = int(asked["limit"][0])
    groups = {name for value in asked.get("group_by", []) for name in value.split(",")}
    if start % width or end % width or not 1 <= limit <= MOST_BUCKETS:
        raise ValueError("start_time and end_time must be on bucket edges, limit within 1 to 1440")
    if "user_ids" in asked or groups != ({"user_id", "api_key_id"} if width == 60 else set()):
        raise ValueError("minutes are canned by user_id and api_key_id, hours and days in total")
    if "page" in asked:
        start = int(asked["page"][0].removeprefix("at:"))
    until = min(end, start + limit * width)
    data = b",".join(_bucket(canned, at, width, bool(groups)) for at in range(start, until, width))
    if until < end:
        return b'{"object":"page","data":[%b],"has_more":true,"next_page":"at:%d"}' % (data, until)
    return b'{"object":"page","data":[%b],"has_more":false,"next_page":null}' % data


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, page: Callable[[str], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = page
        self.lock = threading.Lock()
        self.first_request = 0.0
        self.requests = 0
        self.bytes = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that breaks off an answer: it asks for a smaller one."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def count(self, arrived: float, size: int) -> None:
        with self.lock:
            if self.requests == 0 or arrived < self.first_request:
                self.first_request = arrived
            self.requests += 1
            self.bytes += size

    def take_counts(self) -> bytes:
        with self.lock:
            counts = {
                "first_request": self.first_request,
                "requests": self.requests,
                "bytes": self.bytes,
            }
            self.first_request, self.requests, self.bytes = 0.0, 0, 0
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
        if url.path != USAGE_PATH:
            self._answer(404, b'{"error":"not served here"}')
            return
        try:
            body = self.server.page(url.query)
        except (KeyError, ValueError) as error:
            self._answer(400, json.dumps({"error": repr(error)}).encode())
            return
        # Counted before it is sent: whoever has read the answer finds it in the counts.
        self.server.count(arrived, len(body))
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


def serve(page: Callable[[str], bytes], rows: int, operations: int) -> None:
    """Answer query strings by `page`, on a free port that is said on standard output."""
    server = _Server(page)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"url": url, "rows": rows, "operations": operations}), flush=True)
    server.serve_forever()


def main() -> None:
    """Render, say on standard output where and what is served, and serve until terminated."""
    canned = render()
    operations = sum(total[2] for total in canned.totals)
    serve(partial(page, canned), canned.rows, operations)


if __name__ == "__main__":
    main()
