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
    fastest = max(
        each["requests"] / sample.seconds
        for each, sample in zip(facts[-taken:], runs[LIMITED].samples, strict=True)
    )
    return Report(
        title="10,000 conversations with 100,000 items",
        ours=OURS,
        rows=[Row(name, _INCLUDES[name], summary) for name, summary in runs.items()],
        targets=[
            at_least_times_faster(runs, OURS, SEQUENTIAL, 8),
            Target(
                f"below {RATE:,.0f} requests a second where that is the limit",
                f"{fastest:,.0f} at most",
                fastest <= RATE,
            ),
        ],
        notes=[
            f"{requests:,} requests, each answered {LATENCY * 1000:.0f} ms later than it could be; "
            f"medians of {taken}, contenders in turns."
        ],
    )
