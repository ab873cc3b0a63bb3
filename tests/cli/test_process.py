"""`mka1-usage` as a process: pipes that close, Ctrl-C, locales, and what is imported when."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys
import termios
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from pipeline.emulator import EmulatorServer, World, synthetic_world
from pipeline.timeline import DAY, Window, parse_time
from tests.bounded import LIMIT, finished, started
from tests.fixtures_local import clean_environment, command, published_home

START = parse_time("2024-01-01")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two made-up days. Tests only read it."""
    world = synthetic_world(days=2, users=15)
    return published_home(tmp_path_factory.mktemp("home"), world, Window(START, START + 2 * DAY))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


ROOT = str(Path(__file__).parents[2])
MAIN = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def start(args: Sequence[str], **environment: str) -> AbstractContextManager[Popen[str]]:
    env = {**os.environ, "PYTHONPATH": ROOT, **environment}
    return started([*MAIN, *args], stdout=PIPE, stderr=PIPE, env=env)


@pytest.mark.parametrize(
    "args",
    [
        ["sql", "--format", "csv", "select range, repeat('x', 99) from range(99999)"],
        ["sql", "from usage_1m"],
        ["buckets", "--start", "2024-01-01", "--width", "1m", "--group-by", "user_id"],
    ],
)
def test_a_reader_that_has_had_enough_ends_a_command_quietly(args: list[str]) -> None:
    with start(args) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head -1` does, and before the first byte
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("args", [["names", "check"], ["sql", "from usage_1d"]])
def test_streams_that_are_closed_take_nothing_and_send_nothing_elsewhere(args: list[str]) -> None:
    """As under a supervisor that closes them: a note on closed stderr is not in the data."""
    said = {}
    for closed in ("2>&-", "1>&-", "<&- 1>&- 2>&-"):
        line = ["sh", "-c", f'exec "$@" {closed}', "sh", *MAIN, *args]
        env = {**os.environ, "PYTHONPATH": ROOT}
        with started(line, stdout=PIPE, stderr=PIPE, env=env) as process:
            said[closed] = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said
    data = command(args)
    assert said["2>&-"] == (data.text, "")
    assert said["1>&-"] == ("", data.err)
    assert said["<&- 1>&- 2>&-"] == ("", "")


@pytest.mark.parametrize("form", ["table", "csv"])
def test_ctrl_c_ends_a_query_quietly_with_130(form: str) -> None:
    query = "select sum(a.range * b.range) from range(9999999) a, range(9999999) b"
    script = (
        "import sys; from pipeline.query import ad_hoc; from pipeline.cli import main\n"
        "work = ad_hoc._interruptibly\n"
        "def told(con, query): print('asked', file=sys.stderr, flush=True); "
        "return work(con, query)\n"
        "ad_hoc._interruptibly = told; main()"
    )
    command = [sys.executable, "-c", script, "sql", "--format", form, query]
    env = {**os.environ, "PYTHONPATH": ROOT}
    with started(command, stdout=PIPE, stderr=PIPE, env=env) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "asked\n"
        process.send_signal(signal.SIGINT)  # whether or not the query is under way by now
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 130


def test_a_query_can_come_from_a_pipe() -> None:
    for given, expected in (("select 41 + 1 as n;\n", "n\n42\n"), ("", "")):
        command = [*MAIN, "sql", "--format", "csv"]
        env = {**os.environ, "PYTHONPATH": ROOT}
        done = finished(command, text=given, env=env, check=False)
        assert done.stdout == expected
        assert (done.returncode, "one query is wanted, 0 were given" in done.stderr) == (
            (0, False) if given else (2, True)
        )


def test_on_a_terminal_sql_without_a_query_is_a_shell_on_the_tables(tmp_path: Path) -> None:
    mine, its = pty.openpty()
    termios.tcsetwinsize(its, (40, 120))
    env = {**os.environ, "PYTHONPATH": ROOT, "HOME": str(tmp_path), "TERM": "xterm"}
    with started([*MAIN, "sql"], stdin=its, stdout=its, stderr=its, env=env) as process:
        os.close(its)
        said = b""
        typed = iter([b"select 'rows: ' || count(*) from top_users(3);", b"create table t(i int);"])
        with suppress(OSError):  # which is how a terminal ends
            while more := os.read(mine, 65_536):
                said += more
                if said.endswith(b"\x1b[c"):  # what kind of terminal is it?
                    os.write(mine, b"\x1b[?1;2c")
                if said.endswith(b"\x1b[6n"):  # where is the cursor?
                    os.write(mine, b"\x1b[1;1R")
                if more.endswith(b"usage> "):  # what is typed before it asks is thrown away
                    os.write(mine, next(typed, b".quit") + b"\r")
        assert process.wait(LIMIT) == 0
    os.close(mine)
    assert b"rows: 3" in said
    assert b"read-only mode" in said
    assert (tmp_path / ".duckdb_history").exists()


def test_output_that_the_locale_lacks_is_no_error() -> None:
    with start(["sql", "select 'ユーザー七' as u"], PYTHONIOENCODING="ascii") as process:
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, "")
    assert "\\u30e6" in out
    args = ["buckets", "--start", "2024-01-01", "--group-by", "user_id"]
    with start(args, PYTHONIOENCODING="ascii") as process:
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, "")
    assert "ユーザー七" in out


def test_the_emulator_tells_what_to_type_and_ends_quietly() -> None:
    args = ["emulator", "--port", "0", "--days", "2", "--users", "3", "--start", "2024-02-28"]
    with start(args) as process:
        assert process.stderr is not None
        said = "".join(process.stderr.readline() for _ in range(4))
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 0
    assert re.search(r"serving on http://127\.0\.0\.1:\d+ until Ctrl-C", said)
    assert "export MKA1_BASE_URL=http://127.0.0.1:" in said
    assert said.endswith("mka1-usage run --start 2024-02-28 --end 2024-03-01\n")


def test_a_port_that_is_taken_is_named() -> None:
    with EmulatorServer(World()) as server:
        port = server.base_url.rpartition(":")[2]
        ended = command(["emulator", "--port", port, "--days", "1", "--users", "1"])
    assert ended.code == 1
    assert ended.err.startswith(f"mka1-usage: error: port {port} on 127.0.0.1 is in use")


def test_help_waits_for_no_heavy_module() -> None:
    script = (
        "import sys, pipeline.cli\n"
        "heavy = {'dagster', 'duckdb', 'pyarrow', 'uvicorn'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    env = {**os.environ, "PYTHONPATH": ROOT}
    assert finished([sys.executable, "-c", script], env=env).stderr == ""
