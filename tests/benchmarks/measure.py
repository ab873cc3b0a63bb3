"""Running contenders: each in a fresh process, in turns, with its wall time and peak memory.

A *contender* is prepared (imports, clients), run (this is measured), and asked for facts about
its result (so that results can be compared). This module knows nothing about what is run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]

Facts = Mapping[str, int]
Job = Mapping[str, str]
"""What a contender is to work on: a URL, folders. Strings, for it travels as JSON."""


@dataclass(frozen=True)
class Prepared:
    """A contender that is ready to go."""

    run: Callable[[], object]
    """All that is measured."""
    facts: Callable[[], Facts]
    """What came out, read back after the measurement."""


Contender = Callable[[Job], Prepared]


@dataclass(frozen=True)
class Sample:
    """One run of one contender. Times in seconds on ``time.monotonic``'s clock."""

    started: float
    finished: float
    peak_bytes: int
    facts: Facts

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.finished - self.started


@dataclass(frozen=True)
class Summary:
    """All runs of one contender."""

    samples: Sequence[Sample]

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def peak_bytes(self) -> int:
        """The highest peak of any run: a limit on memory holds always or not at all."""
        return max(sample.peak_bytes for sample in self.samples)


def peak_bytes() -> int:
    """The peak resident memory of this whole process, interpreter and libraries included.

    ``ru_maxrss`` on Linux starts from the peak of the process that launched this one, so there
    ``VmHWM`` is read, which starts with the program. ``ru_maxrss`` is in bytes on macOS only.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(module: str, contender: str, job: Job) -> Sample:
    """Run a contender of ``module`` once, in a fresh process.

    Raises ``RuntimeError`` with the end of the process's own error output if it fails.
    """
    command = [sys.executable, "-m", module, contender, json.dumps(dict(job))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{contender} failed with exit code {done.returncode}:\n{done.stderr[-4000:]}"
        )
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def contend(contenders: Mapping[str, Contender]) -> None:
    """Be the process that :func:`measure` starts: run one contender and print its sample."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=list(contenders))
    parser.add_argument("job", type=json.loads)
    asked = parser.parse_args()
    prepared = contenders[asked.contender](asked.job)
    started = time.monotonic()
    prepared.run()
    finished = time.monotonic()
    # The peak is read before the facts, which load results that the contender did not.
    peak = peak_bytes()
    sample = {
        "started": started,
        "finished": finished,
        "peak_bytes": peak,
        "facts": dict(prepared.facts()),
    }
    print(json.dumps(sample), flush=True)


def in_turns(
    names: Sequence[str], rounds: int, once: Callable[[str], Sample]
) -> dict[str, Summary]:
    """Run every contender in every round, A B C A B C, so that noise meets all of them alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            sample = once(name)
            samples[name].append(sample)
            print(
                f"  round {number}/{rounds}  {name}: {sample.seconds:.2f} s, "
                f"{sample.peak_bytes / 1e6:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return {name: Summary(taken) for name, taken in samples.items()}
