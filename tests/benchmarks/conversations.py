"""10,000 conversations with 100,000 items, from an API with 5 ms of latency to reconciled tables.

Contenders are the product with one request in flight, with many, and with many below a rate limit.
Time runs from the first request to the last file; usage is loaded before.
"""

from __future__ import annotations

import tempfile
from typing import Final

from tests.benchmarks.conversation_contenders import LIMITED, OURS, RATE, SEQUENTIAL
from tests.benchmarks.conversation_server import CONVERSATIONS, ITEMS, LATENCY, serving
from tests.benchmarks.measure import Sample, in_turns, measure
from tests.benchmarks.report import Report, Row, Target, at_least_times_faster

_MODULE: Final = "tests.benchmarks.conversation_contenders"
_INCLUDES: Final = {
    SEQUENTIAL: "the same, one request in flight",
    OURS: "conversations, items, responses; observed buckets; reconciliation",
    LIMITED: f"the same, at most {RATE:,.0f} requests a second",
}


def run(rounds: int) -> Report:
    """Serve the same conversations to each contender, up to 3 times, in turns.

    Raises ``RuntimeError`` if a contender fails or lands other rows than the rest.
    """
    taken = min(rounds, 3)
    with serving() as server:

        def once(name: str) -> Sample:
            with tempfile.TemporaryDirectory(prefix="mka1-sync-") as folder:
                return measure(_MODULE, name, {**server, "folder": folder})

        runs = in_turns(list(_INCLUDES), taken, once)
    facts = [dict(sample.facts) for summary in runs.values() for sample in summary.samples]
    expected = {"conversations": CONVERSATIONS, "items": ITEMS, "responses": CONVERSATIONS}
    if any({**each, **expected} != each for each in facts):
        raise RuntimeError(f"landed {facts}, there are {expected}")
    requests = facts[0]["requests"]
    limited = runs[LIMITED].samples
    # At most so many in any second: in t seconds, no more than t + 1 times as many.
    kept = all(each.facts["requests"] <= RATE * (each.seconds + 1) for each in limited)
    return Report(
        title="10,000 conversations with 100,000 items",
        ours=OURS,
        rows=[Row(name, _INCLUDES[name], summary) for name, summary in runs.items()],
        targets=[
            at_least_times_faster(runs, OURS, SEQUENTIAL, 8),
            Target(
                f"within {RATE:,.0f} requests in any second where that is the limit",
                f"{requests:,} in {min(each.seconds for each in limited):.1f} s",
                kept,
            ),
        ],
        notes=[
            f"{requests:,} requests, each answered {LATENCY * 1000:.0f} ms later than it could be; "
            f"medians of {taken}, contenders in turns."
        ],
    )
