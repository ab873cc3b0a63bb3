"""What `usage.duckdb` has besides a view of each table: macros and views for common questions.

A macro is a query of `sql/` whose parameters are the macro's own, over tables that are themselves
macros or views. So they run in any DuckDB client, without this package. Zones come from the table
`time_zones`, since a client's rules may be out of date. Times are UTC, of a type without a zone
(`plain`), so the time zone that the client is set to changes no result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Final

import pyarrow as pa

from pipeline.lake import engine
from pipeline.lake.buckets import MARGIN, ZONE
from pipeline.lake.schemas import COVERED
from pipeline.timeline import ANY_WIDTHS, Window, day_of, day_window
from pipeline.zones import offsets, zones

TIME_ZONES: Final = "time_zones"


@dataclass(frozen=True, slots=True)
class Macro:
    """A table macro: `sql/<query>.sql` with parameters, over inputs that are queries themselves."""

    name: str
    description: str
    query: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of the macro's own, with a default each in SQL; empty where one has to be given."""
    given: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the query's `$parameters` are in SQL, where it is not the parameter of that name."""
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    """What tables of the query are in SQL, where they are no tables of the catalog."""
    rows: str = "SELECT * FROM {query}"
    """What becomes of the query's rows."""

    def definition(self, catalog: str) -> str:
        """The statement that creates it there."""
        parameters = ", ".join(
            f"{name} := {default}" if default else name for name, default in self.parameters.items()
        )
        return f"CREATE MACRO {catalog}.{self.name}({parameters}) AS TABLE {self.body}"

    @property
    def body(self) -> str:
        """Its SELECT, in which parameters stand as names of their own."""
        text = engine.sql(self.query)
        # Longer names first: `$days` begins with `$day`.
        for name in sorted({*self.parameters, *self.given}, key=len, reverse=True):
            text = text.replace(f"${name}", self.given.get(name, name))
        inputs = ", ".join(f"{name} AS ({select})" for name, select in self.inputs.items())
        rows = self.rows.format(query=f"({text}\n)")
        return f"{f'WITH {inputs} ' if inputs else ''}{rows}"


_WIDTHS = ", ".join(f"'{width}'" for width in ANY_WIDTHS)
_WIDTH: Final = (
    f"(CASE WHEN width IN ({_WIDTHS}) THEN width ELSE error('width ' || width || ' is none of "
    f"{', '.join(ANY_WIDTHS)}') END)"
)
_ZONE: Final = (
    f"SELECT zone_start, zone_end, clock_offset, offset_before FROM {TIME_ZONES} WHERE name = "
    f"(CASE WHEN tz IN (SELECT name FROM {TIME_ZONES}) THEN tz ELSE error('tz ' || tz || ' is no "
    f"time zone: take an IANA name such as Asia/Karachi; {TIME_ZONES} has all') END)"
)
_SPAN: Final = (
    "SELECT CAST(min(day) AS TIMESTAMP) AS start_time, "
    "CAST(max(day) AS TIMESTAMP) + INTERVAL 1 DAY AS end_time "
    "FROM coverage WHERE dataset = 'usage_1d' AND status <> 'missing'"
)
"""From the first day that is loaded to the end of the last, with usage or without."""
_TABLES = ", ".join(f"'{name}'" for name in COVERED)
_COVERED: Final = (
    f"(CASE WHEN table_name IN ({_TABLES}) THEN table_name "
    "ELSE error('table_name ' || table_name || ' is no table that coverage speaks of') END)"
)
_BY_TIME: Final = {"width": "", "tz": "'UTC'"}
_USAGE: Final = "SELECT * FROM usage_by(width, tz := tz)"
_BUCKETS: Final = "SELECT * FROM buckets_by(width, tz := tz)"
_TOP: Final = {"n": "10", "days": "7"}
_LAST_HOUR: Final = (
    "(SELECT max(CAST(epoch(start_time) AS BIGINT)) FROM coverage WHERE dataset = 'usage_1h' "
    "AND status <> 'missing' AND complete_through >= end_time)"
)
_SPIKES: Final = (
    "SELECT it.id AS user_id, make_timestamp(1000000 * it.bucket_start) AS start_time, "
    "it.amount AS num_operations, CAST(it.usual AS DOUBLE) AS usual_operations, "
    "CASE WHEN it.usual > 0 THEN ROUND(1e0 * it.amount / it.usual, 1) END AS times_usual "
    "FROM {query} AS it WHERE it.kind = 'user' "
    "ORDER BY it.amount - it.usual DESC, it.bucket_start, it.id NULLS FIRST"
)

_KNOWN_SOURCE: Final = (
    "(CASE WHEN source IN ('observed', 'reported') THEN source ELSE error('source ' || source || "
    "' is none of observed, reported') END)"
)
_OBSERVED_OR_REPORTED: Final = {"source": "'observed'"}
_PRICED_COLUMNS: Final = (
    "start_time, user_id, api_key_id, model, num_responses, "
    "input_tokens, cached_tokens, output_tokens, reasoning_tokens"
)
_TOKENS: Final = (
    f"SELECT {_PRICED_COLUMNS} FROM tokens_1m WHERE {_KNOWN_SOURCE} = 'observed' UNION ALL "
    f"SELECT {_PRICED_COLUMNS} FROM metered_tokens() WHERE source = 'reported'"
)
_COMPARED_DAYS: Final = (
    "SELECT CAST(day AS TIMESTAMP) AS start_time FROM coverage WHERE dataset IN "
    "('costs_1d', CASE WHEN source = 'reported' THEN 'meters_1m' ELSE 'tokens_1m' END) "
    "AND status NOT IN ('missing', 'dropped') GROUP BY day "
    "HAVING count(DISTINCT dataset) = 2"
)
"""Of days that one of them lacks, nothing can be said."""


def plain(moment: str) -> str:
    """A SQL timestamp as UTC without a zone: the same whatever zone a client is set to.

    Clients need no ICU extension for it, and DuckDB 2.0 still leaves out the row groups that a
    condition on it rules out.
    """
    return f"make_timestamp(epoch_us({moment}))"


_EDGES: Final = (
    f"SELECT {plain('it.start_time')} AS start_time, {plain('it.end_time')} AS end_time, "
    "make_timestamp(epoch_us(it.start_time) + 1000000 * zone.clock_offset) AS local_start "
    "FROM {query} AS it JOIN zone ON epoch_us(it.start_time) >= 1000000 * zone.zone_start "
    "AND epoch_us(it.start_time) < 1000000 * zone.zone_end ORDER BY it.start_time"
)


_TEAM_NAME: Final = (
    ", (SELECT max(called.team_name) FROM team_names AS called WHERE called.team_id = it.team_id) "
    "AS team_name"
)
_NAME_OF_ID: Final = _TEAM_NAME.replace("it.team_id", "it.id")
_TEAM_AS_USER: Final = (
    "SELECT start_time, end_time, team_id AS user_id, team_id AS api_key_id, "
    "num_conversations_created, num_items_added, num_operations FROM {rows}"
)
"""Usage by team, for a query that knows users and keys."""
_JOINED: Final = (
    " AS day LEFT JOIN names AS users ON users.kind = 'user' AND day.user_id = users.id "
    "LEFT JOIN names AS api_keys ON api_keys.kind = 'key' AND day.api_key_id = api_keys.id"
)
"""The names of a row's user and key."""
_TEAM: Final = "COALESCE(users.team_id, api_keys.team_id)"
_TEAM_DAYS: Final = (
    f"SELECT day.start_time, day.end_time, {_TEAM} AS team_id, day.num_conversations_created, "
    f"day.num_items_added, day.num_operations FROM usage_1d{_JOINED}"
)
_TEAM_TOKENS: Final = (
    f"SELECT day.start_time, {_TEAM} AS user_id, day.num_responses, day.input_tokens, "
    f"day.output_tokens, day.total_tokens FROM tokens_1d{_JOINED}"
)
_GROWTH: Final = (
    "SELECT it.start_time, it.end_time, it.user_id AS team_id, it.num_operations, it.previous, "
    f"it.difference, it.percent_change, it.is_new{_TEAM_NAME.replace('it.team_id', 'it.user_id')}, "
    "marks.local_start FROM {query} AS it "
    "JOIN (SELECT start_time, local_start FROM bucket_edges(width, tz := tz)) AS marks "
    "ON it.start_time = marks.start_time "
    "ORDER BY it.start_time, it.difference DESC NULLS LAST, it.user_id NULLS FIRST"
)


def _local(order: str, more: str = "") -> str:
    """Rows by bucket, in that order, with what a clock of the zone shows as the bucket begins.

    `more`: columns before that."""
    return (
        f"SELECT it.*{more}, marks.local_start FROM {{query}} AS it "
        "JOIN (SELECT start_time, local_start FROM bucket_edges(width, tz := tz)) AS marks "
        f"ON it.start_time = marks.start_time ORDER BY it.start_time{order}"
    )


MACROS: Final = (
    Macro(
        "bucket_edges",
        "Where the buckets of a width begin and end in a time zone.",
        "bucket_edges",
        _BY_TIME,
        {"width": _WIDTH},
        {"span": _SPAN, "zone": _ZONE},
        _EDGES,
    ),
    Macro(
        "buckets_by",
        "The same, and whether each is loaded whole: usage_1m, unless another table is named.",
        "buckets",
        {**_BY_TIME, "table_name": "'usage_1m'"},
        {"table_name": _COVERED},
        inputs={"edges": "SELECT * FROM bucket_edges(width, tz := tz)"},
        rows=_local(""),
    ),
    Macro(
        "usage_by",
        "Usage by bucket, user and key, in buckets of any width and time zone.",
        "usage_by",
        _BY_TIME,
        inputs={
            "usage_rows": "SELECT * FROM usage_1m",
            "edges": "SELECT * FROM bucket_edges(width, tz := tz)",
        },
        rows=_local(", it.user_id NULLS FIRST, it.api_key_id NULLS FIRST"),
    ),
    Macro(
        "tokens_by",
        "Responses and tokens by bucket, user, key and model, in buckets of any width and time "
        "zone, as far as a sync could list them.",
        "tokens_by",
        _BY_TIME,
        inputs={
            "tokens_rows": "SELECT * FROM tokens_1m",
            "edges": "SELECT * FROM bucket_edges(width, tz := tz)",
        },
        rows=_local(", it.user_id NULLS FIRST, it.api_key_id NULLS FIRST, it.model NULLS FIRST"),
    ),
    Macro(
        "metered_tokens",
        "Tokens by minute, user, key and model, as the usage endpoints report them.",
        "metered_tokens",
        inputs={"meters": "SELECT * FROM meters_1m"},
    ),
    Macro(
        "model_days",
        "Which models were used on which UTC days, and how much.",
        "model_days",
        _OBSERVED_OR_REPORTED,
        inputs={"tokens_rows": _TOKENS},
    ),
    Macro(
        "price_of",
        "The prices that match each model on each UTC day that it was used on: place 1 counts.",
        "price_of",
        _OBSERVED_OR_REPORTED,
        inputs={"model_days": "SELECT * FROM model_days(source := source)"},
    ),
    Macro(
        "cost_by",
        "What tokens cost by bucket, user, key, model and currency, in buckets of any width and "
        "time zone. NULL: unknown, since the model has no price or no tokens are reported.",
        "cost_by",
        {**_BY_TIME, **_OBSERVED_OR_REPORTED},
        inputs={
            "tokens_rows": _TOKENS,
            "edges": "SELECT * FROM bucket_edges(width, tz := tz)",
            "price_of": "SELECT * FROM price_of(source := source)",
        },
        rows=_local(
            ", it.user_id NULLS FIRST, it.api_key_id NULLS FIRST, it.model NULLS FIRST, "
            "it.currency NULLS FIRST"
        ),
    ),
    Macro(
        "costs_compared",
        "What the API bills for each UTC day beside what its tokens cost by the price list, and "
        "why they differ.",
        "costs_compared",
        _OBSERVED_OR_REPORTED,
        inputs={
            "billed_costs": "SELECT * FROM costs_1d",
            "computed_costs": "SELECT * FROM cost_by('1d', source := source)",
            "compared_days": _COMPARED_DAYS,
        },
    ),
    Macro(
        "active_users",
        "How many users were active in each bucket, and how many were new.",
        "active_users",
        _BY_TIME,
        inputs={"usage": _USAGE, "buckets": _BUCKETS},
        rows=_local(""),
    ),
    Macro(
        "period_over_period",
        "Each measure of each bucket beside that of the bucket before.",
        "period_over_period",
        _BY_TIME,
        inputs={"usage": _USAGE, "buckets": _BUCKETS},
        rows=_local(", it.measure"),
    ),
    *(
        Macro(
            f"share_by_{ids}",
            f"What part of each bucket's operations belongs to each {ids}.",
            "share",
            _BY_TIME,
            {"by": f"'{column}'"},
            {"usage": _USAGE},
            _local(", it.num_operations DESC NULLS LAST, it.id NULLS FIRST"),
        )
        for ids, column in (("user", "user_id"), ("key", "api_key_id"))
    ),
    *(
        Macro(
            f"top_{ids}",
            f"The n {ids} with most operations in the last days that are loaded.",
            "top",
            _TOP,
            {"by": f"'{column}'"},
        )
        for ids, column in (("users", "user_id"), ("keys", "api_key_id"))
    ),
    Macro(
        "top_users_by_tokens",
        "The n users with most tokens in the last days whose responses were read, as far as a sync "
        "could list them.",
        "top_tokens",
        _TOP,
    ),
    Macro(
        "failures_by_model",
        "How many responses of each model failed, by bucket, as far as a sync could list them.",
        "failures_by_model",
        _BY_TIME,
        inputs={"tokens": "SELECT * FROM tokens_by(width, tz := tz)"},
        rows=_local(", it.num_failed DESC NULLS LAST, it.model NULLS FIRST"),
    ),
    Macro(
        "growth_by_user",
        "Each user's operations of a bucket beside those of the bucket before, where both are "
        "loaded whole.",
        "growth_by_user",
        _BY_TIME,
        inputs={"usage": _USAGE, "buckets": _BUCKETS},
        rows=_local(", it.difference DESC NULLS LAST, it.user_id NULLS FIRST"),
    ),
    Macro(
        "peaks_by_key",
        "The busiest minute of each key in each bucket, and what it did then.",
        "peaks_by_key",
        _BY_TIME,
        inputs={
            "usage_rows": "SELECT * FROM usage_1m",
            "edges": "SELECT * FROM bucket_edges(width, tz := tz)",
        },
        rows=_local(", it.peak_operations DESC NULLS LAST, it.api_key_id NULLS FIRST"),
    ),
    Macro(
        "team_usage_by",
        "Usage by bucket and team, in buckets of any width and time zone.",
        "team_of_usage",
        _BY_TIME,
        inputs={"usage": _USAGE},
        rows=_local(", it.team_id NULLS FIRST", _TEAM_NAME),
    ),
    Macro(
        "team_tokens_by",
        "Responses and tokens by bucket, team and model, in buckets of any width and time zone, as "
        "far as a sync could list them.",
        "team_of_tokens",
        _BY_TIME,
        inputs={"tokens": "SELECT * FROM tokens_by(width, tz := tz)"},
        rows=_local(", it.team_id NULLS FIRST, it.model NULLS FIRST", _TEAM_NAME),
    ),
    Macro(
        "team_cost_by",
        "What tokens cost by bucket, team, model and currency, in buckets of any width and time "
        "zone. NULL: unknown.",
        "team_of_costs",
        {**_BY_TIME, **_OBSERVED_OR_REPORTED},
        inputs={"costs": "SELECT * FROM cost_by(width, tz := tz, source := source)"},
        rows=_local(
            ", it.team_id NULLS FIRST, it.model NULLS FIRST, it.currency NULLS FIRST", _TEAM_NAME
        ),
    ),
    Macro(
        "share_by_team",
        "What part of each bucket's operations belongs to each team.",
        "share",
        _BY_TIME,
        {"by": "'user_id'"},
        {"usage": _TEAM_AS_USER.format(rows="team_usage_by(width, tz := tz)")},
        _local(", it.num_operations DESC NULLS LAST, it.id NULLS FIRST", _NAME_OF_ID),
    ),
    Macro(
        "top_teams",
        "The n teams with most operations in the last days that are loaded.",
        "top",
        _TOP,
        {"by": "'user_id'"},
        {"usage_1d": _TEAM_AS_USER.format(rows=f"({_TEAM_DAYS})")},
        f"SELECT it.*{_NAME_OF_ID} FROM {{query}} AS it ORDER BY it.place",
    ),
    Macro(
        "top_teams_by_tokens",
        "The n teams with most tokens in the last days whose responses were read, as far as a sync "
        "could list them.",
        "top_tokens",
        _TOP,
        inputs={"tokens_1d": _TEAM_TOKENS},
        rows=f"SELECT it.*{_NAME_OF_ID} FROM {{query}} AS it ORDER BY it.place",
    ),
    Macro(
        "growth_by_team",
        "Each team's operations of a bucket beside those of the bucket before, where both are "
        "loaded whole.",
        "growth_by_user",
        _BY_TIME,
        inputs={
            "usage": _TEAM_AS_USER.format(rows="team_usage_by(width, tz := tz)"),
            "buckets": _BUCKETS,
        },
        rows=_GROWTH,
    ),
    Macro(
        "spikes",
        "Of the last complete hours, those in which a user is far above their usual peak. With "
        "hours := 24, least_days := 7 it is what the alert of that name reports.",
        "spikes",
        {"times": "3", "days": "28", "at_least": "100", "hours": "168", "least_days": "5"},
        {
            "first_start": f"({_LAST_HOUR} - 3600 * (hours - 1))",
            "last_start": _LAST_HOUR,
            "table_name": "'usage_1h'",
        },
        {
            "amounts": "SELECT start_time, user_id, api_key_id, COALESCE(num_operations, 0) AS "
            "amount FROM usage_1h"
        },
        _SPIKES,
    ),
)


@dataclass(frozen=True, slots=True)
class View:
    """A view of `sql/<query>.sql`, whose first columns have other names."""

    description: str
    query: str
    columns: Mapping[str, str]
    """Its first columns, by the names that they have in the query."""
    given: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the query's parameters are."""

    @property
    def body(self) -> str:
        """Its SELECT."""
        text = engine.sql(self.query)
        for name, value in self.given.items():
            text = text.replace(f"${name}", f"'{value}'")
        return text


VIEWS: Final = {
    "users": View(
        "Everyone who has used something, with when and how much.",
        "members",
        {"id": "user_id"},
        {"by": "user_id"},
    ),
    "api_keys": View(
        "Every key that something was used with, when and how much.",
        "members",
        {"id": "api_key_id"},
        {"by": "api_key_id"},
    ),
    "user_names": View(
        "What everyone is called, and the team: the id, where there is no name.",
        "member_names",
        {"id": "user_id", "name": "user_name"},
        {"kind": "user"},
    ),
    "api_key_names": View(
        "What every key is called, and its team: the id, where there is no name.",
        "member_names",
        {"id": "api_key_id", "name": "api_key_name"},
        {"kind": "key"},
    ),
    "team_names": View(
        "What every team and cost centre is called: the id, where there is no name.",
        "team_names",
        {"id": "team_id", "name": "team_name"},
    ),
}
"""Views beside those of the datasets."""


def view(name: str) -> str:
    """The statement that creates one of VIEWS."""
    return f"CREATE VIEW {name}({', '.join(VIEWS[name].columns.values())}) AS {VIEWS[name].body}"


NOW: Final = "utc_now"
"""A macro beside: now, of the same type as all times. The client's own `now()` has a zone, and a
comparison of the two would count by the client's zone."""


def time_zones(window: Window) -> pa.Table:
    """The offsets of every zone around `window`: its name, and what buckets want to know of it."""
    return _offsets_of_all(day_of(window.start - MARGIN).year, day_of(window.end + MARGIN).year + 1)


@cache
def _offsets_of_all(first_year: int, last_year: int) -> pa.Table:
    """In whole years, so that it is worth keeping: it takes a fifth of a second."""
    first, last = (day_window(date(year, 1, 1)).start for year in (first_year, last_year))
    rows = [
        (name, it.start, it.end, it.seconds, it.before)
        for name in sorted(zones())
        for it in offsets(name, Window(first, last))
    ]
    schema = pa.schema([("name", pa.string()), *ZONE])
    return pa.table(list(zip(*rows, strict=True)), schema=schema)
