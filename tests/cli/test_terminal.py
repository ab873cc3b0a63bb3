"""What a person sees: a bar on a terminal, lines elsewhere, errors in words."""

from __future__ import annotations

import errno
import json
import unicodedata
from datetime import date
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

from pipeline.cli.exit_codes import exit_codes
from pipeline.orchestration.progress import showing
from pipeline.settings import SettingsError
from pipeline.terminal import in_words, printable, say, short
from pipeline.timeline import day_window
from pipeline.usage.load import Progress
from pipeline.usage.rollup import DayPublished

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 2)
ROWS = {"raw_usage": 12_345, "usage_1m": 12_000, "usage_1h": 500, "usage_1d": 60}


def progress(day: date, rows: int) -> Progress:
    return Progress(day, rows=rows)


def published(day: date, changed: tuple[str, ...] = ("usage_1m",)) -> Progress:
    return Progress(day, rows=12_345, published=DayPublished(day, day_window(day), ROWS, changed))


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_one_bar_that_fits_into_a_line(width: int) -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    with showing(console, FIRST, LAST) as listener:
        listener(progress(FIRST, 1_000))
        listener(progress(FIRST, 2_000))
        listener(published(FIRST))
        listener(progress(LAST, 500))
        listener(published(LAST))
    last = screen.getvalue().replace("\x1b[?25h", "").splitlines()[-1].rpartition("\x1b[2K")[2]
    assert last.startswith("2024-01-01 to 2024-01-02")
    assert "2/2 days  24,690 rows" in last
    assert len(last) <= width


def test_a_message_stands_above_the_bar_and_leaves_it_whole() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with showing(console, FIRST, LAST) as listener:
        say("retrying: 503: down; next try in 4 s")
        listener(published(FIRST))
    shown = screen.getvalue()
    assert "mka1-usage: retrying: 503: down; next try in 4 s\n" in shown
    assert "1/2 days" in shown.rpartition("next try")[2]


def test_elsewhere_each_published_day_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = StringIO()
    with showing(Console(file=screen, force_terminal=False), FIRST, LAST) as listener:
        listener(progress(FIRST, 1_000))
        listener(published(FIRST))
        listener(published(LAST, changed=()))
    out, err = capsys.readouterr()
    counted = "12,345 rows served, 12,000 by minute, 500 by hour, 60 by day\n"
    assert err == f"2024-01-01 published: {counted}2024-01-02 unchanged: {counted}"
    assert out == screen.getvalue() == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SettingsError("MKA1_X: is bad"), 2, "mka1-usage: error: MKA1_X: is bad\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/lake"),
            1,
            "mka1-usage: error: /data/lake: Permission denied\n",
        ),
        (OSError("the disk is on fire"), 1, "mka1-usage: error: the disk is on fire\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes():
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr() == ("", line)


def test_a_bug_is_not_taken_for_an_error_of_the_user() -> None:
    with pytest.raises(ZeroDivisionError), exit_codes():
        raise ZeroDivisionError


def test_an_error_in_words_has_no_number() -> None:
    assert in_words(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"


def test_a_path_is_shown_as_one_would_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / "data" / "x") == str(Path("data") / "x")
    assert short(tmp_path.parent) == str(tmp_path.parent)


def test_what_a_terminal_would_obey_is_shown_as_json_escapes_it() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000)]))
    text = printable(every)
    left = {char for char in text if unicodedata.category(char) == "Cc"}
    assert left == {"\t", "\n"}
    assert not {char for char in text if unicodedata.bidirectional(char) in _TURNS}
    assert printable("plain, ユーザー七 and 👩‍💻") == "plain, ユーザー七 and 👩‍💻"


def test_json_stays_the_same_json() -> None:
    every = "".join(map(chr, [*range(0x3000), *range(0xFE00, 0x10000)]))
    text = printable(json.dumps({"user_id": every}, ensure_ascii=False))
    assert json.loads(text) == {"user_id": every}


def test_a_message_does_not_obey_what_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    say("no such user: a\x1b[31m\x9b\u202e")
    assert capsys.readouterr().err == ("mka1-usage: no such user: a\\u001b[31m\\u009b\\u202e\n")


_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
