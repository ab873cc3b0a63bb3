"""A quota that is close to spent, as far as that can be known.

Belongs here: our own requests against what we are told the quota is, and 429s.

The API gives no figure: neither a quota, nor what is left of it. So there are two signs. Requests
of today against MKA1_USAGE_ALERT_REQUESTS_PER_DAY, where that is set; and 429s, of which the client
takes a few in its stride, in more than one of twenty requests. What others ask with the same key is
not seen here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipeline.alerts.finding import Finding, Looked, equals, shown
from pipeline.alerts.thresholds import Thresholds
from pipeline.lake.engine import literal, no_glob
from pipeline.tally import Tallied, tally_file
from pipeline.timeline import DAY, day_of, iso
from pipeline.words import count

_LEAST_REFUSED: Final = 10
_ONE_IN: Final = 20


def spending(
    tallied: Iterable[Tallied], folder: Path, now: float, thresholds: Thresholds
) -> Looked:
    """Keys whose quota is nearly spent, or refused, today (UTC, up to `now`, Unix seconds).

    `folder` is where the tally is kept, for whoever looks further.
    """
    midnight = int(now) // DAY * DAY
    requests, refused = Counter[str](), Counter[str]()
    first_refused: dict[str, int] = {}
    for one in tallied:
        if midnight <= one.at <= now:
            requests[one.key] += one.requests
            refused[one.key] += one.refused
            if one.refused:
                first_refused[one.key] = min(first_refused.get(one.key, one.at), one.at)
    findings: list[Finding] = []
    for key in sorted(requests):
        query = _query(folder, midnight, key)
        quota = thresholds.requests_per_day
        if quota and 100 * requests[key] >= thresholds.quota_percent * quota:
            findings.append(
                Finding(
                    alert="quota",
                    severity="error" if requests[key] >= quota else "warning",
                    subject=f"spent {key}",
                    since=midnight,
                    how_much=float(requests[key]),
                    what=(
                        f"{shown(key, 'key')}: {count(requests[key], 'request')} of ours since "
                        f"{iso(midnight)}, {100 * requests[key] // quota:,} % of the {quota:,} a "
                        "day that it has"
                    ),
                    query=query,
                    folder=folder.absolute(),
                )
            )
        if refused[key] >= _LEAST_REFUSED and refused[key] * _ONE_IN > requests[key]:
            findings.append(
                Finding(
                    alert="quota",
                    severity="warning",
                    subject=f"refused {key}",
                    since=first_refused[key],
                    how_much=float(refused[key]),
                    what=(
                        f"{shown(key, 'key')}: {refused[key]:,} of our "
                        f"{count(requests[key], 'request')} of today were answered 429, "
                        f"since {iso(first_refused[key])}"
                    ),
                    query=query,
                    folder=folder.absolute(),
                )
            )
    return Looked(findings)


def _query(folder: Path, midnight: int, key: str) -> str:
    path = literal(no_glob(tally_file(folder, day_of(midnight))))
    # Left to itself, DuckDB reads `at` in the time zone that a client is set to.
    columns = "{'at': 'TIMESTAMP', 'key': 'VARCHAR', requests: 'BIGINT', refused: 'BIGINT'}"
    return f"from read_json({path}, columns = {columns}) where {equals('key', key)} order by all"
