"""Load one minute of usage from an address, and print the memory that it took.

A process of its own, for memory is measured by process: `python -m tests.torture.swallow URL BYTES`
with the largest body that is taken in.
"""

from __future__ import annotations

import json
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


def main() -> None:
    """Print how it ended, and the peak before and after, in bytes."""
    url, max_bytes = sys.argv[1], int(sys.argv[2])
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
    print(json.dumps({"ended": ended, "before": before, "after": peak_bytes()}))


if __name__ == "__main__":
    main()
