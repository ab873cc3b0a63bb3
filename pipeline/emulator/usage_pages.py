"""The usage endpoints: parameters, cursors, pages, and what may be odd about them."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from hashlib import sha256
from itertools import islice

from pipeline.emulator.billing import ORG_ID
from pipeline.emulator.counting import WIDTHS, Filters, JsonObject, usage_result, window_edges
from pipeline.emulator.endpoints import DIMENSIONS, Endpoint
from pipeline.emulator.faults import FaultPlan, Faults
from pipeline.emulator.queries import ApiError, Query
from pipeline.emulator.world import World

MAX_LIMIT = 1_440
DEFAULT_LIMITS: Mapping[str, int] = {"1m": 1_440, "1h": 168, "1d": 31}
_BOOLEANS = ("true", "false")
CURSOR_PREFIX = "p+/=& "
"""Every cursor holds characters that a client must URL-encode."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A usage endpoint's parameters, its window widened to whole buckets (Unix seconds, UTC)."""

    endpoint: Endpoint
    start: int
    end: int
    width: int
    limit: int
    group_by: tuple[str, ...]
    filters: Filters
    page: str | None
    fingerprint: str
    """What a cursor is bound to: all of the query but `limit` and `page`."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a walk goes on: the next bucket, the window's end, the bucket last served."""

    next_start: int
    end: int
    last_served: int | None
    rested: bool = False
    """Whether the empty page that may come first has been served."""

    def encode(self, fingerprint: str) -> str:
        """The opaque text of the cursor, bound to the query with that fingerprint."""
        payload = json.dumps(astuple(self)).encode()
        seal = sha256(payload + fingerprint.encode()).hexdigest()[:12]
        return f"{CURSOR_PREFIX}{base64.b64encode(payload).decode()}.{seal}"

    @classmethod
    def decode(cls, text: str, fingerprint: str) -> "Cursor":
        """The cursor of that text. Raises ApiError 400 when it is not one of this query's."""
        refusal = ApiError(400, "Invalid or expired page cursor")
        encoded, _, _ = text.removeprefix(CURSOR_PREFIX).partition(".")
        try:
            cursor = cls(*json.loads(base64.b64decode(encoded, validate=True)))
        except (ValueError, TypeError) as error:
            raise refusal from error
        if cursor.encode(fingerprint) != text:
            raise refusal
        return cursor


def parse_usage_query(raw: bytes, now: float, endpoint: Endpoint) -> UsageQuery:
    """A usage endpoint's parameters from a query string. Raises ApiError 400 for others.

    `end_time` is `now` (Unix seconds) when absent. Besides the parameters of the founding contract
    those that the published client adds are taken: `external_user_ids` as `user_ids`, `org_ids` and
    `all_orgs` for the one organisation there is, `group_by=org_id`, and of endpoints that know
    models or background work `models` and `background`.
    """
    query = Query(
        raw,
        single=(
            *("start_time", "end_time", "bucket_width", "limit", "page", "all_orgs"),
            *(("background",) if "background" in endpoint.dimensions else ()),
        ),
        lists=(
            *("user_ids", "external_user_ids", "group_by", "org_ids"),
            *(("models",) if "model" in endpoint.dimensions else ()),
        ),
    )
    start, end = query.integer("start_time"), query.integer("end_time")
    if start is None:
        raise ApiError(400, "start_time is required")
    if end is not None and end <= start:
        raise ApiError(400, f"end_time must be after start_time: {end} is not after {start}")
    bucket_width = query.choice("bucket_width", tuple(WIDTHS), "1d")
    group_by = query.several("group_by", endpoint.group_by)
    filters, orgs = _filters(query)
    bound = {name: sorted(values) for name, values in filters.items()}
    fingerprint = [endpoint.name, start, end, bucket_width, sorted(group_by), bound, orgs]
    width = WIDTHS[bucket_width]
    first, last = window_edges(start, int(now // 1) + 1 if end is None else end, width)
    return UsageQuery(
        endpoint=endpoint,
        start=first,
        end=last,
        width=width,
        limit=query.limit(MAX_LIMIT, DEFAULT_LIMITS[bucket_width]),
        group_by=group_by,
        filters=filters,
        page=query.text("page"),
        fingerprint=json.dumps(fingerprint),
    )


def _filters(query: Query) -> tuple[Filters, list[str]]:
    """What is wanted, by dimension, and the organisations that were named."""
    users = [*(query.texts("user_ids") or ()), *(query.texts("external_user_ids") or ())]
    orgs = query.texts("org_ids")
    filters: dict[str, frozenset[str | bool]] = {}
    if users:
        filters["user_id"] = frozenset(users)
    if orgs is not None and ORG_ID not in orgs:
        filters["user_id"] = frozenset()
    if models := query.texts("models"):
        filters["model"] = frozenset(models)
    if query.text("background") is not None:
        filters["background"] = frozenset([query.choice("background", _BOOLEANS, "") == "true"])
    return filters, sorted(orgs or ())


def usage_page(world: World, query: UsageQuery, plan: FaultPlan) -> JsonObject:
    """One page of a usage endpoint. ApiError 400 for a cursor that is unknown or has expired."""
    faults = plan.faults
    cursor = Cursor(query.start, query.end, None)
    if query.page is not None:
        cursor = Cursor.decode(query.page, query.fingerprint)
        if plan.cursor_expires():
            raise ApiError(400, "Invalid or expired page cursor")
    quirk = plan.next_quirk()
    if quirk == "empty_pages" and cursor.last_served is not None and not cursor.rested:
        return _page_json([], replace(cursor, rested=True).encode(query.fingerprint))

    again = (
        [cursor.last_served] if faults.duplicate_bucket and cursor.last_served is not None else []
    )
    limit = min(query.limit, faults.clamp_limit or query.limit)
    fresh = _fresh_starts(world, query, cursor, max(limit - len(again), 1) + 1, faults.sparse)
    following = fresh.pop() if len(fresh) > max(limit - len(again), 1) else None
    data = _buckets(world, query, [*again, *fresh])
    next_page = None
    if following is not None:
        next_page = Cursor(following, cursor.end, fresh[-1]).encode(query.fingerprint)
        if faults.restate_between:
            data[-1] = _not_yet_right(query.endpoint, data[-1])
    if quirk == "stray_buckets":
        before, after = _buckets(world, query, [query.start - query.width, cursor.end])
        data = [before, *data, after]
    org = {"org_id": ORG_ID} if "org_id" in query.group_by else {}
    data = [_dressed(query.endpoint, bucket, faults, org) for bucket in data]
    if quirk == "repeated_cursor" and query.page is not None:
        next_page = query.page
    page = _page_json(data, next_page)
    if quirk in {"missing_cursor", "early_end"}:
        page["next_page"] = None
    if quirk in {"early_end", "denied_more"}:
        page["has_more"] = False
    return page


def _page_json(data: list[JsonObject], next_page: str | None) -> JsonObject:
    return {
        "object": "page",
        "data": data,
        "has_more": next_page is not None,
        "next_page": next_page,
    }


def _buckets(world: World, query: UsageQuery, starts: Sequence[int]) -> list[JsonObject]:
    group_by = [name for name in query.group_by if name in DIMENSIONS]
    return world.buckets(query.endpoint.name, starts, query.width, group_by, query.filters)


def _fresh_starts(
    world: World, query: UsageQuery, cursor: Cursor, count: int, sparse: bool
) -> list[int]:
    """The first `count` starts of buckets from the cursor on; `sparse` skips those without rows."""
    if not sparse:
        upto = min(cursor.next_start + count * query.width, cursor.end)
        return list(range(cursor.next_start, upto, query.width))
    occupied = world.occupied(query.endpoint.name, cursor.next_start, cursor.end, query.width)
    with_rows = (start for start in occupied if _buckets(world, query, [start])[0]["results"])
    return list(islice(with_rows, count))


def _not_yet_right(endpoint: Endpoint, bucket: JsonObject) -> JsonObject:
    """A bucket as served before it is restated: every number one too high, and a row too many."""
    rows = [
        {**row, **{name: row[name] + 1 for name in endpoint.measures}} for row in bucket["results"]
    ]
    group = ("user_taken_back", *[None] * (len(endpoint.dimensions) - 1))
    taken_back = usage_result(endpoint, group, [1] * len(endpoint.measures))
    return {**bucket, "results": [*rows, taken_back]}


def _dressed(
    endpoint: Endpoint, bucket: JsonObject, faults: Faults, fields: Mapping[str, str]
) -> JsonObject:
    """A bucket whose rows have further `fields`, and what the switches add to them."""
    extra = {**fields, **faults.extra_fields}
    if not extra and not faults.split_rows:
        return bucket
    rows = [{**row, **extra} for row in bucket["results"]]
    if faults.split_rows:
        rows = [half for row in rows for half in _halves(endpoint, row)]
    return {**bucket, "results": rows}


def _halves(endpoint: Endpoint, row: JsonObject) -> list[JsonObject]:
    """One row as two that add up to it; the first may be all zeros."""
    half = {name: row[name] // 2 for name in endpoint.measures}
    rest = {name: row[name] - value for name, value in half.items()}
    return [{**row, **half, "tier": "flex"}, {**row, **rest, "tier": "default"}]
