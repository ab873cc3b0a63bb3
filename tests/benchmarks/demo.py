"""How long ``mka1-usage demo`` takes, as a user starts it: a command, in an empty folder.

Here the start of Python and all imports are in the time, for the user waits for them too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.benchmarks.measure import Sample, in_turns
from tests.benchmarks.report import Report, Row, Target

OURS: Final = "mka1-usage demo"
_SECONDS: Final = 20


def _once(_name: str) -> Sample:
    """Run the installed command once, in a home and a working folder of its own.

    The peak is that of its largest process. Raises ``RuntimeError`` if the command fails.
    """
    command = [str(Path(sys.executable).parent / "mka1-usage"), "demo"]
    with tempfile.TemporaryDirectory(prefix="mka1-demo-") as folder:
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "LANG": "C.UTF-8"}
        with tempfile.TemporaryFile() as output:
            started = time.monotonic()
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            finished = time.monotonic()
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace")[-4000:]
                raise RuntimeError(f"{OURS} failed with exit code {process.returncode}:\n{said}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Sample(started, finished, usage.ru_maxrss * unit, {})


def run(rounds: int) -> Report:
    """Run the command up to 3 times."""
    taken = min(rounds, 3)
    runs = in_turns([OURS], taken, _once)
    seconds = runs[OURS].seconds
    return Report(
        title="The demo",
        ours=OURS,
        rows=[Row(OURS, "the whole command, in an empty home", runs[OURS])],
        targets=[Target(f"under {_SECONDS} s", f"{seconds:.1f} s", seconds < _SECONDS)],
        notes=[f"Median of {taken}."],
    )
