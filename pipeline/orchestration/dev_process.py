"""Dagster's command line in a process that ends when the one that has started it is gone.

However that ends: a process that is killed can end nobody else. It holds the other end of the pipe
that is stdin here and writes nothing, so the end of that file is its end.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGINT)  # the group of `dagster dev` and all that it has started


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("dagster", run_name="__main__", alter_sys=True)
