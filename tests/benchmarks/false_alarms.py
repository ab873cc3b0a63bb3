"""How often the alerts are wrong, and what they find: the tables in ``docs/alerts.md``.

Run it from the root of the repository (minutes, not seconds)::

    python -m tests.benchmarks.false_alarms [TRACE.csv]

Three platforms of six weeks, of which the first four make the baseline and every hour and day of
the others is judged with the default thresholds, by the queries that the product runs. Nothing is
wrong with them: each alert is a false one. Then things go wrong on purpose, twenty times each, at
random hours of the day shift (spikes) or at any hour (outages).

- the demo's made-up traffic, for more weeks: 50 users
- an hour of real traffic (the trace), drawn from anew for every hour, conversation by conversation,
  as many as the hour and weekday has in the demo: its users are as the emulator deals them out
- the same with moods: each of its users is away on three days of ten, and does between a tenth and
  ten times as much as usual on others, by the day and by the hour (lognormal, sigma 0.8 and 0.7)

Failures are drawn by themselves: a model that has so many responses in its busiest hour, of which
3% fail, in some hours a few times more or less (lognormal, sigma 0.6).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.alerts.alert import Evaluation, equals
from pipeline.alerts.failures import failures
from pipeline.alerts.lateness import late
from pipeline.alerts.silence import silent
from pipeline.alerts.spikes import spikes
from pipeline.emulator import START_2024, synthetic_world
from pipeline.emulator.synthetic import HOUR_WEIGHTS, WEEKDAY_WEIGHTS
from pipeline.emulator.trace import key_of, read_trace, user_of
from pipeline.lake import engine
from pipeline.lake.schemas import COVERAGE, TOKENS, USAGE
from pipeline.query.status import Days
from pipeline.settings import load_settings
from pipeline.timeline import DAY, SECONDS, Width, floor_to
from tests.truth import TRACE

HOUR: Final = SECONDS["1h"]
BASELINE: Final = 28
JUDGED: Final = 14
PLANTS: Final = 20
DAY_SHIFT: Final = range(8, 20)

Counts = dict[tuple[int, str | None, str | None], list[int]]
"""Conversations, items and operations by hour, user and key."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Six weeks of usage."""

    name: str
    counts: Counts

    def by_user(self) -> dict[str, int]:
        """Operations of each user in all, the busiest first."""
        sums: dict[str, int] = defaultdict(int)
        for (_, user, _), counts in self.counts.items():
            if user is not None:
                sums[user] += counts[2]
        return dict(sorted(sums.items(), key=lambda one: (-one[1], one[0])))

    def usual_hour(self, user: str) -> int:
        """What the user does in an hour of the day shift, on average."""
        done = sum(
            counts[2]
            for (hour, who, _), counts in self.counts.items()
            if who == user and hour // HOUR % 24 in DAY_SHIFT
        )
        return max(1, done // (len(DAY_SHIFT) * (BASELINE + JUDGED)))


def demo() -> Platform:
    """The emulator's synthetic world."""
    counts: Counts = defaultdict(lambda: [0, 0, 0])
    for event in synthetic_world(days=BASELINE + JUDGED).events():
        of = counts[floor_to(int(event.at), "1h"), event.user_id, event.api_key_id]
        of[0] += event.conversations_created
        of[1] += event.items_added
        of[2] += event.operations
    return Platform("demo, 50 users", counts)


def replayed(trace: str, *, moods: bool) -> Platform:
    """The trace's conversations, drawn anew for every hour."""
    arrivals: dict[int, list[float]] = defaultdict(list)
    for request in read_trace(trace):
        arrivals[request.conversation].append(request.timestamp_ms / 1_000)
    drawn = [
        (user_of(number, 500), key_of(number), [at - times[0] for at in times])
        for number, times in arrivals.items()
    ]
    random = Random(1)
    users = sorted({user for user, _, _ in drawn}, key=str)
    counts: Counts = defaultdict(lambda: [0, 0, 0])
    for day in range(BASELINE + JUDGED):
        mood = {
            user: random.lognormvariate(-0.32, 0.8) if random.random() < 0.7 else 0.05
            for user in users
        }
        for hour in range(24):
            busy = HOUR_WEIGHTS[hour] / max(HOUR_WEIGHTS)
            busy *= WEEKDAY_WEIGHTS[day % 7] / max(WEEKDAY_WEIGHTS)
            factor = {user: mood[user] * random.lognormvariate(-0.25, 0.7) for user in users}
            for user, key, offsets in random.choices(drawn, k=int(len(drawn) * busy)):
                times = factor[user] if moods else 1.0
                for _ in range(int(times) + (random.random() < times % 1)):
                    at = START_2024 + DAY * day + HOUR * (hour + random.random())
                    counts[floor_to(int(at), "1h"), user, key][0] += 1
                    counts[floor_to(int(at), "1h"), user, key][2] += 1
                    for offset in offsets:
                        of = counts[floor_to(int(at + offset), "1h"), user, key]
                        of[1] += 2
                        of[2] += 1
    return Platform(f"trace, 500 users{' with moods' if moods else ''}", counts)


@contextmanager
def loaded(platform: Platform) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables usage_1h, usage_1d and coverage: all is loaded."""
    with closing(engine.connect()) as con:
        for width in ("1h", "1d"):
            con.register("given", _table(platform.counts, width))
            con.execute(f"CREATE TEMP TABLE usage_{width} AS FROM given")
        hours = range(START_2024, START_2024 + DAY * (BASELINE + JUDGED), HOUR)
        rows = [
            {
                "dataset": "usage_1h",
                "start_time": hour * 1_000_000,
                "end_time": (hour + HOUR) * 1_000_000,
                "status": "final",
                "complete_through": (hour + HOUR) * 1_000_000,
            }
            for hour in hours
        ]
        con.register("given", pa.Table.from_pylist(rows, schema=COVERAGE.schema))
        con.execute("CREATE TEMP TABLE coverage AS FROM given")
        yield con


def _table(counts: Counts, width: Width) -> pa.Table:
    sums: Counts = defaultdict(lambda: [0, 0, 0])
    for (hour, user, key), of in counts.items():
        into = sums[floor_to(hour, width), user, key]
        for place, count in enumerate(of):
            into[place] += count
    schema = USAGE[width].schema
    starts = pa.array([start * 1_000_000 for start, _, _ in sums], pa.int64())
    ends = pa.array([(start + SECONDS[width]) * 1_000_000 for start, _, _ in sums], pa.int64())
    moment = schema.field("start_time").type
    return pa.table(
        [
            starts.cast(moment),
            ends.cast(moment),
            pa.array([user for _, user, _ in sums], pa.string()),
            pa.array([key for _, _, key in sums], pa.string()),
            *(pa.array([of[place] for of in sums.values()], pa.int64()) for place in range(3)),
        ],
        schema=schema,
    )


def count(con: duckdb.DuckDBPyConnection, query: str) -> None:
    """Let the alerts count what the query gives."""
    con.execute(f"CREATE OR REPLACE TEMP VIEW counted AS {query}")


THRESHOLDS: Final = load_settings().thresholds
FIRST_JUDGED: Final = START_2024 + DAY * BASELINE
END: Final = FIRST_JUDGED + DAY * JUDGED


def false_alarms(con: duckdb.DuckDBPyConnection) -> Mapping[str, float]:
    """Alerts a day, where nothing is wrong."""
    found: dict[str, int] = dict.fromkeys(("hour", "day", "zero"), 0)
    count(con, "FROM usage_1h")
    for hour in range(FIRST_JUDGED, END, HOUR):
        found["hour"] += _number(spikes(con, "1h", hour, THRESHOLDS))
        found["zero"] += _number(silent(con, hour + HOUR, THRESHOLDS))
    count(con, "FROM usage_1d")
    for day in range(FIRST_JUDGED, END, DAY):
        found["day"] += _number(spikes(con, "1d", day, THRESHOLDS))
    return {name: number / JUDGED for name, number in found.items()}


def _number(looked: Evaluation) -> int:
    return len(looked.findings) + looked.more


def spikes_found(con: duckdb.DuckDBPyConnection, platform: Platform, user: str, times: int) -> str:
    """How many of the hours, and of the days, in which a user did so many times as much."""
    random = Random(3)
    usual = platform.usual_hour(user)
    hours = days = 0
    for _ in range(PLANTS):
        day = FIRST_JUDGED + DAY * random.randrange(JUDGED)
        hour = day + HOUR * random.choice(DAY_SHIFT)
        count(con, f"FROM usage_1h UNION ALL {_more('1h', hour, user, usual * (times - 1))}")
        hours += _names(spikes(con, "1h", hour, THRESHOLDS), user)
        count(
            con,
            f"SELECT * REPLACE (CASE WHEN {equals('user_id', user)} "
            f"AND start_time = to_timestamp({day}) THEN {times} ELSE 1 END * num_operations "
            "AS num_operations) FROM usage_1d",
        )
        days += _names(spikes(con, "1d", day, THRESHOLDS), user)
    return f"{hours} and {days}"


def _more(width: Width, start: int, user: str, operations: int) -> str:
    return (
        f"SELECT to_timestamp({start}), to_timestamp({start + SECONDS[width]}), "
        f"{engine.literal(user)}, NULL, 0, 0, {operations}"
    )


def _names(looked: Evaluation, user: str) -> bool:
    return any(f" user {user!r}" in finding.subject for finding in looked.findings)


def outages_found(con: duckdb.DuckDBPyConnection, hours: int) -> str:
    """How many outages of so many hours were found while they lasted, and after how long."""
    random = Random(4)
    after: list[int] = []
    for _ in range(PLANTS):
        start = FIRST_JUDGED + HOUR * random.randrange(24 * JUDGED - hours)
        count(
            con,
            f"FROM usage_1h WHERE start_time < to_timestamp({start}) "
            f"OR start_time >= to_timestamp({start + hours * HOUR})",
        )
        seen = (
            lasted
            for lasted in range(1, hours + 1)
            if _number(silent(con, start + lasted * HOUR, THRESHOLDS))
        )
        after += [lasted for lasted in [next(seen, None)] if lasted is not None]
    latest = f", at the latest after {max(after)} h" if after else ""
    return f"{len(after)} of {PLANTS}{latest}"


def failures_found(busiest: int) -> str:
    """False alarms of a model a day, and how many hours were found in which more of it failed."""
    random = Random(5)
    responses: dict[int, list[int]] = {}
    for number in range(24 * (BASELINE + JUDGED)):
        mean = busiest * HOUR_WEIGHTS[number % 24] / max(HOUR_WEIGHTS)
        asked = max(0, round(random.gauss(mean, mean**0.5)))
        share = min(1.0, 0.03 * random.lognormvariate(-0.18, 0.6))
        failed = sum(random.random() < share for _ in range(asked))
        responses[START_2024 + number * HOUR] = [asked, failed]
    false = sum(_fails(responses, hour) for hour in range(FIRST_JUDGED, END, HOUR))
    found: dict[str, int] = {}
    for share in (0.2, 0.4, 0.8):
        found[f"{share:.0%}"] = 0
        for _ in range(PLANTS):
            day = FIRST_JUDGED + DAY * random.randrange(JUDGED)
            hour = day + HOUR * random.choice(DAY_SHIFT)
            asked, _ = responses[hour]
            failed = sum(random.random() < share for _ in range(asked))
            found[f"{share:.0%}"] += _fails(responses | {hour: [asked, failed]}, hour)
    return f"false a day: {false / JUDGED:.2f}, found of {PLANTS}: {found}"


def _fails(responses: Mapping[int, list[int]], hour: int) -> bool:
    schema = TOKENS["1h"].schema
    rows = [
        {
            "start_time": at * 1_000_000,
            "end_time": (at + HOUR) * 1_000_000,
            "model": "m",
            "num_responses": asked,
            "num_failed": failed,
        }
        for at, (asked, failed) in responses.items()
        if hour - BASELINE * DAY <= at <= hour
    ]
    known = [
        {
            "dataset": "tokens_1h",
            "start_time": row["start_time"],
            "end_time": row["end_time"],
            "status": "final",
            "complete_through": row["end_time"],
        }
        for row in rows
    ]
    with closing(engine.connect(threads=1)) as con:
        con.register("counted", pa.Table.from_pylist(rows, schema=schema))
        con.register("coverage", pa.Table.from_pylist(known, schema=COVERAGE.schema))
        return bool(failures(con, "1h", hour, THRESHOLDS).findings)


def late_after(missed: int) -> str:
    """What becomes of hourly runs, five past and of ten minutes, of which so many are missed.

    Looked at every minute, over the time that one run after another is missed.
    """
    run, takes = 5 * 60, 10 * 60
    through = run
    recovered = run + HOUR * (missed + 1) + takes
    alerted = [
        now
        for now in range(run + takes, recovered, 60)
        if late(Days({}, through), float(now), THRESHOLDS).findings
    ]
    return "none" if not alerted else f"for {len(alerted)} min before the next run ends"


def main() -> None:
    """Print the tables."""
    trace = sys.argv[1] if len(sys.argv) > 1 else str(TRACE)
    for platform in (
        demo(),
        replayed(trace, moods=False),
        replayed(trace, moods=True),
    ):
        ranked = list(platform.by_user())
        with loaded(platform) as con:
            alarms = false_alarms(con)
            print(f"| {platform.name} | false a day: {alarms} |", flush=True)
            for which, user in (("middling", ranked[len(ranked) // 4]), ("largest", ranked[0])):
                found = {times: spikes_found(con, platform, user, times) for times in (5, 10, 50)}
                usual = platform.usual_hour(user)
                print(f"| {platform.name} | {which}, {usual:,} an hour: {found} |", flush=True)
            outages = {hours: outages_found(con, hours) for hours in (1, 3, 6)}
            print(f"| {platform.name} | outages: {outages} |", flush=True)
    for busiest in (20, 200, 2_000):
        print(f"| {busiest:,} responses in the busiest hour | {failures_found(busiest)} |")
    for missed in range(4):
        print(f"| runs missed in a row: {missed} | {late_after(missed)} |")


if __name__ == "__main__":
    main()
