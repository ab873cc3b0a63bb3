"""Charts are drawn in a process of their own, so that a crash there ends nothing else.

Vega runs in V8 inside vl-convert, which initialises V8 in a thread of its own. Where the processor
has memory protection keys (`pku`), V8 lets only that thread's children touch its code, and the
process dies now and then: github.com/denoland/rusty_v8/issues/1381. A process that died is started
anew, and draws the same chart again.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

_COMMAND: Final = (sys.executable, "-P", str(Path(__file__).with_name("chart_worker.py")))
_LONGEST: Final = 120.0
"""Seconds after which a chart that is still being drawn never will be."""
_TRIES: Final = 3


class DrawingError(RuntimeError):
    """A chart could not be drawn. The message says why, in one line."""


class DrawingProcess:
    """Draws one chart at a time, for any number of threads. It starts with the first."""

    def __init__(self, command: tuple[str, ...] = _COMMAND, longest: float = _LONGEST) -> None:
        self._command = command
        self._longest = longest
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    def svg(self, spec: dict[str, Any], vl_version: str) -> str:
        """A Vega-Lite chart as an SVG. DrawingError."""
        return self._ask({"spec": spec, "vl_version": vl_version})["svg"]

    def png(self, svg: str, scale: float) -> bytes:
        """The bytes of an SVG's picture, at `scale` pixels to one of its own. DrawingError."""
        return base64.b64decode(self._ask({"svg": svg, "scale": scale})["png"])

    def close(self) -> None:
        """End the process; the next chart starts another."""
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a forked process: leave the process to the one that started it."""
        self._lock = threading.Lock()
        self._process = None

    def _ask(self, request: dict[str, Any]) -> dict[str, str]:
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            for _ in range(_TRIES):
                if answer := self._answer(line):
                    break
                how = self._end()
            else:
                raise DrawingError(f"the process that draws charts ended {_TRIES} times: {how}")
        found: dict[str, str] = json.loads(answer)
        if "error" in found:
            raise DrawingError(f"a chart cannot be drawn: {found['error']}")
        return found

    def _answer(self, line: bytes) -> bytes | None:
        """The answer to a request; None if the process died of it, or took too long."""
        if self._process is None:
            pipe = subprocess.PIPE
            try:
                self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe)
            except OSError as error:
                why = error.strerror
                raise DrawingError(f"the process that draws charts cannot start: {why}") from None
        process = self._process
        requests, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        late = threading.Timer(self._longest, process.kill)
        late.daemon = True
        late.start()
        try:
            requests.write(line)
            requests.flush()
            answer = answers.readline()
        except OSError:  # its end is closed
            return None
        except BaseException:  # the next request must not read the answer to this one
            process.kill()
            raise
        finally:
            late.cancel()
        return answer if answer.endswith(b"\n") else None

    def _end(self) -> str:
        """End the process; returns how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "not started"
        with suppress(OSError):  # what it has not read is lost with it
            process.communicate()
        code = process.returncode
        return f"exit code {code}" if code >= 0 else f"signal {-code}"


DRAWING: Final = DrawingProcess()
"""What everything in this process draws with."""

atexit.register(DRAWING.close)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=DRAWING.forget)
