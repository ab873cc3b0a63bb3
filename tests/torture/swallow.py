"""Load one minute of usage from an address, and print the memory that it took.

`python -m tests.torture.swallow` reads lines of JSON: an address, and the largest body that is
taken in. Each is loaded by a process of its own, for memory is measured by process; it is a copy of
this one, which has imported everything and done nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from pipeline.api import Client, Limits
from pipeline.emulator import START_2024
from pipeline.lake.store import Lake
from pipeline.timeline import day_of
from pipeline.usage.load import LoadError, load_days
from tests.benchmarks.measure import peak_bytes


def swallow(url: str, max_bytes: int) -> None:
    """Print how it ended, and the peak before and after, in bytes."""
    limits = Limits(attempts=1, max_bytes=max_bytes)
    before = peak_bytes()
    ended = "loaded"
    with TemporaryDirectory() as folder:
        try:
            load_days(
                lambda: Client(url, SecretStr("mka1-key-0123456789"), limits),
                Lake(Path(folder)),
                [day_of(START_2024)],
                now=lambda: START_2024 + 60.0,
            )
        except LoadError as error:
            ended = str(error)
    print(json.dumps({"ended": ended, "before": before, "after": peak_bytes()}), flush=True)


def main() -> None:
    """Swallow one after another until the input ends, each in a process of its own."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            swallow(*json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"it ended with {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
