"""What may go wrong on purpose: the switches (`Faults`), and when they strike (`FaultPlan`).

Decisions follow from the seed and the number of the request, never from wall time.
"""

from collections.abc import Mapping
from dataclasses import field
from random import Random
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

FaultKind: TypeAlias = Literal[
    "rate_limited", "server_error", "refused", "reset", "truncated", "not_json", "timed_out"
]
"""
- `rate_limited`: 429 with the API's own body, and a `Retry-After` if the switch asks for one.
- `server_error`: 500, 502, 503 and 504 in turn.
- `refused`: the connection is closed before any byte of the answer.
- `reset`: the connection is cut in the middle of the body; the declared length is not reached.
- `truncated`: 200 with half of the body and a content-length that agrees with it.
- `not_json`: 200 with an HTML page, as a proxy sends.
- `timed_out`: 504 from a gateway that has asked the API and does not wait for its answer.

After `reset` and `truncated` a POST has been done, and only its answer is lost; after `timed_out`
it is done `timed_out_by` seconds later. The others stand for a gateway that did not ask the API at
all.
"""
PageQuirk: TypeAlias = Literal[
    "empty_pages", "stray_buckets", "repeated_cursor", "missing_cursor", "early_end", "denied_more"
]
"""
- `empty_pages`: a page without buckets, but with a cursor, comes before each page but the first.
- `stray_buckets`: every page begins with the bucket before the window and ends with the one after.
- `repeated_cursor`: from the second page on, the next cursor is the one just used, without end.
- `missing_cursor`: where there are more pages, `has_more` is true and `next_page` null.
- `early_end`: where there are more pages, `has_more` is false and `next_page` null.
- `denied_more`: where there are more pages, `has_more` is false, and `next_page` leads to them.
"""
UnknownCursor: TypeAlias = Literal[400, 404, 410, 422, "beginning", "empty"]
"""What a cursor brings whose row is not in the list: a status, all rows, or none."""
UNKNOWN_CURSOR: tuple[UnknownCursor, ...] = get_args(UnknownCursor)
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
SERVER_ERRORS = (500, 502, 503, 504)
Method: TypeAlias = Annotated[str, Field(pattern="^(GET|POST)$")]
"""The HTTP methods of the endpoints."""
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
_Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Whole: TypeAlias = Annotated[int, Field(ge=0)]
_AtLeastOne: TypeAlias = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Faults:
    """The switches, all off by default. Raises ValueError for values that mean nothing."""

    seed: int = 0
    rates: Mapping[FaultKind, _Share] = field(default_factory=dict[FaultKind, float])
    """Probability of each kind for each request; together at most 1."""
    only: frozenset[Method] = frozenset()
    """The HTTP methods that `rates` strike, as `frozenset({"POST"})`; empty means all."""
    max_consecutive: _AtLeastOne = 3
    """At most this many of those in a row for one request line: a patient client gets on."""
    retry_after: Literal["seconds", "date"] | None = None
    """The form of `Retry-After` on `rate_limited`; None sends none."""
    retry_after_seconds: _Whole = 0
    """What that `Retry-After` asks for."""
    timed_out_by: _Seconds = 0.0
    """How many seconds of the world's clock after a `timed_out` its POST is done."""
    latency: _Seconds = 0.0
    """Seconds that every request waits before anything is done about it, each by itself."""

    quota: _Whole | None = None
    """How many requests are answered before every further one is 429, until the quota is reset."""
    quota_retry_after: _Whole = 60
    """The seconds that `Retry-After` asks for once the quota is used up."""

    expire_cursors_every: _AtLeastOne | None = None
    """Each n-th use of a usage cursor is refused: 400 `Invalid or expired page cursor`."""
    sparse: bool = False
    """Usage buckets without results are left out."""
    clamp_limit: _AtLeastOne | None = None
    """The most buckets or rows on a page, whatever `limit` says."""
    duplicate_bucket: bool = False
    """Each further usage page begins with the last bucket of the one before, once more. It counts
    towards `limit`, except that a page always brings a new bucket too."""
    restate_between: bool = False
    """With `duplicate_bucket`: the first serving has wrong numbers, the second the true ones.
    A walk that starts anew behind such a bucket never sees the truth about it."""
    split_rows: bool = False
    """Result rows come in two that add up to the truth and differ in a further field `tier`."""
    extra_fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further fields on every usage result row, as the API may add."""
    page_quirk: PageQuirk | None = None
    """What is odd about usage pages; see `PageQuirk`."""
    quirk_rate: _Share = 1.0
    """Probability that a usage page has the `page_quirk`."""

    touch_rate: _Share = 0.0
    """Probability that, before a page of conversations is answered, one of them is touched: the
    cursor's own (every second time) or any of that listing. It moves to the end of the order."""
    touches: _AtLeastOne = 1
    """How many conversations are touched each time, one after the other."""
    deleted_gone: Literal["items", "listing"] | None = None
    """What of a soft-deleted conversation is gone: its items (404), or its place in the listing as
    well (as a cursor it is a 400). By default it stays listed, and its items readable."""
    unknown_cursor: UnknownCursor = 400
    """What `after` and `before` of endpoints 2, 3 and 5 bring whose row is not in the list (any
    more): that status, the list as if there was no cursor, or a page without rows."""
    forbidden: frozenset[str] = frozenset()
    """The users that no key may act for: endpoints 2 to 5 answer 403."""
    shared: frozenset[Literal["keys", "users"]] = frozenset()
    """What else a listing shows: with `keys`, what the user did with any other key too; with
    `users`, what any other user did with the key. Usage counts each once, where it was done."""
    usage_delay: _Seconds = 0.0
    """Seconds after which endpoint 1 counts what is posted to endpoint 4."""

    def __post_init__(self) -> None:
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError(f"rates are at most 1 together: {dict(self.rates)}")
        if self.restate_between and not self.duplicate_bucket:
            raise ValueError("restate_between needs duplicate_bucket: the truth comes second")


class FaultPlan:
    """The decisions of one server over its life: what happens to which request."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._requests = 0
        self._answered = 0
        self._errors = 0
        self._cursor_uses = 0
        self._pages = 0
        self._listings = 0
        self._in_a_row: dict[str, int] = {}

    def next_request(self, request_line: str) -> FaultKind | Literal["quota_used_up"] | None:
        """What happens to the next request, as `GET /path?query`; None: it is answered properly."""
        faults = self.faults
        if faults.quota is not None and self._answered >= faults.quota:
            return "quota_used_up"
        aimed_at = not faults.only or request_line.partition(" ")[0] in faults.only
        kind = self._draw() if faults.rates and aimed_at else None
        in_a_row = self._in_a_row.get(request_line, 0)
        if kind is None or in_a_row >= faults.max_consecutive:
            self._in_a_row.pop(request_line, None)
            self._answered += 1
            return None
        self._in_a_row[request_line] = in_a_row + 1
        return kind

    def _draw(self) -> FaultKind | None:
        self._requests += 1
        drawn = _random(self.faults.seed, "request", self._requests).random()
        up_to = 0.0
        for kind in FAULT_KINDS:
            up_to += self.faults.rates.get(kind, 0.0)
            if drawn < up_to:
                return kind
        return None

    def reset_quota(self) -> None:
        """Start the quota anew, as the turn of the hour or day does."""
        self._answered = 0

    def next_server_error(self) -> int:
        """The status of the next `server_error`."""
        self._errors += 1
        return SERVER_ERRORS[(self._errors - 1) % len(SERVER_ERRORS)]

    def cursor_expires(self) -> bool:
        """Whether this use of a usage cursor is refused."""
        self._cursor_uses += 1
        every = self.faults.expire_cursors_every
        return every is not None and self._cursor_uses % every == 0

    def next_quirk(self) -> PageQuirk | None:
        """What is odd about the next usage page."""
        self._pages += 1
        drawn = _random(self.faults.seed, "page", self._pages).random()
        return self.faults.page_quirk if drawn < self.faults.quirk_rate else None

    def next_touch(self) -> Random | None:
        """Whether a conversation is touched before this listing, and the dice that choose it."""
        self._listings += 1
        if not self.faults.touch_rate:
            return None
        random = _random(self.faults.seed, "listing", self._listings)
        return random if random.random() < self.faults.touch_rate else None


def _random(seed: int, purpose: str, number: int) -> Random:
    # Seeding with a string goes through SHA-512, which PYTHONHASHSEED doesn't change.
    return Random(f"{seed}:{purpose}:{number}")  # noqa: S311  # dice, not secrets
