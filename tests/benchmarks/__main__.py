"""The command: ``python -m tests.benchmarks [BENCH…] [--rounds 5] [--json FILE]``.

Exits with 0 when targets are missed (this is a report, not a test), and otherwise when a contender
fails or produces other rows than the rest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks import (
    conversations,
    demo,
    ingest,
    million,
    million_shared,
    rollup,
    serving,
    shared,
    window,
)
from tests.benchmarks.report import Printed, machine

BENCHES: Final[Mapping[str, Callable[[int], Printed]]] = {
    "ingest": ingest.run,
    "window": window.run,
    "rollup": rollup.run,
    "conversations": conversations.run,
    "demo": demo.run,
    "serving": serving.run,
    "shared": shared.run,
}
MILLION: Final = "million"
SHARED_MILLION: Final = "million-shared"
LARGE: Final = (MILLION, SHARED_MILLION)
"""Take minutes and GB of disk: they run only when they are asked for."""


def main() -> None:
    """Run the benches that were asked for, one after the other, and print their reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    large_ones = " and ".join(LARGE)
    parser.add_argument(
        "benches",
        nargs="*",
        metavar="|".join([*BENCHES, *LARGE]),
        help=f"default: all but {large_ones}, which take long",
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--users", type=int, default=1_000_000, help=f"of {large_ones}")
    parser.add_argument("--days", type=int, default=1, help=f"of {MILLION}")
    asked = parser.parse_args()

    def large(_: int) -> Printed:
        return million.run(asked.users, asked.days)

    def large_and_shared(_: int) -> Printed:
        return million_shared.run(asked.users)

    benches: Mapping[str, Callable[[int], Printed]] = {
        **BENCHES,
        MILLION: large,
        SHARED_MILLION: large_and_shared,
    }
    names: list[str] = asked.benches or list(BENCHES)
    unknown = [name for name in names if name not in benches]
    if unknown or min(asked.rounds, asked.users, asked.days) < 1:
        parser.error(f"benches are {', '.join(benches)}; rounds, users and days are 1 or more")
    on = machine()
    data: dict[str, object] = {"machine": on, "rounds": asked.rounds}
    for name in names:
        report = benches[name](asked.rounds)
        data[name] = report.data()
        print(report.markdown(), flush=True)
    print(f"Machine: {on}")
    if asked.json:
        asked.json.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
