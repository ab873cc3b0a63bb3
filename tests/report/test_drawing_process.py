"""Charts are drawn in a process of their own: whatever becomes of it, nothing else ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.report.drawing_process import DrawingError, DrawingProcess
from tests.bounded import started

VL = "6.1"
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" width="2" height="2"></svg>'


def bars(height: int) -> dict[str, object]:
    return {
        "data": {"values": [{"a": "x", "b": 1}]},
        "mark": "bar",
        "height": height,
        "encoding": {"x": {"field": "a"}, "y": {"field": "b", "type": "quantitative"}},
    }


@pytest.fixture(scope="module")
def drawing() -> Iterator[DrawingProcess]:
    process = DrawingProcess()
    yield process
    process.close()


def dying(script: str, *, longest: float = 60) -> DrawingProcess:
    return DrawingProcess((sys.executable, "-c", script), longest)


def test_a_process_that_is_killed_is_started_anew_and_draws_the_same(
    drawing: DrawingProcess,
) -> None:
    before = drawing.svg(bars(40), VL)
    first = drawing.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert drawing.svg(bars(40), VL) == before
    assert drawing.pid not in (None, first)


def test_threads_get_the_charts_that_they_asked_for(drawing: DrawingProcess) -> None:
    heights = range(20, 32)
    alone = {height: drawing.svg(bars(height), VL) for height in heights}
    with ThreadPoolExecutor(4) as pool:
        together = dict(pool.map(lambda it: (it, drawing.svg(bars(it), VL)), heights))
    assert len({*alone.values()}) == len(heights)
    assert together == alone


def test_what_cannot_be_drawn_is_refused_in_words_and_ends_nothing(
    drawing: DrawingProcess,
) -> None:
    assert drawing.png(SQUARE, 2).startswith(b"\x89PNG")
    before = drawing.pid
    with pytest.raises(DrawingError, match=r"a chart cannot be drawn: ."):
        drawing.svg({"mark": {"type": 5}}, VL)
    with pytest.raises(DrawingError, match="a chart cannot be drawn"):
        drawing.png("<svg", 2)
    assert drawing.pid == before


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import sys; sys.stdin.readline(); print('{\"svg\": ', end='')", "exit code 0"),
        ("import sys; sys.stdin.close(); sys.stdout.close()", "exit code 0"),
    ],
)
def test_a_process_that_always_dies_is_given_up_and_said(script: str, how: str) -> None:
    process = dying(script)
    with pytest.raises(DrawingError, match=f"draws charts ended 3 times: {how}"):
        process.svg(bars(40), VL)
    assert process.pid is None


def test_a_process_that_cannot_start_is_said_to_be_that() -> None:
    with pytest.raises(DrawingError, match="draws charts cannot start: No such file"):
        DrawingProcess(("/nowhere/python",)).svg(bars(40), VL)


def test_a_process_that_hangs_is_ended() -> None:
    process = dying("import signal; signal.pause()", longest=0.05)
    with pytest.raises(DrawingError, match="signal 9"):
        process.svg(bars(40), VL)


def test_it_ends_with_the_process_that_started_it() -> None:
    script = f"""
import sys
from pipeline.report.drawing_process import DRAWING
DRAWING.png({SQUARE!r}, 1)
print(DRAWING.pid, flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started([sys.executable, "-c", script], **pipes) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        ended = os.pidfd_open(worker)
        assert not readable(ended, seconds=0)
        parent.kill()
    assert readable(ended, seconds=60)
    os.close(ended)


def readable(file: int, *, seconds: float) -> bool:
    return bool(select.select([file], [], [], seconds)[0])
