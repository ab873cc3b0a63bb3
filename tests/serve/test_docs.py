"""`docs/serving.md` keeps its word: its servers are started, and asked as it says."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import pytest

from pipeline.serve.answers import KEPT_BYTES, QUEUE, WAITING_BYTES
from pipeline.serve.app import LONGEST_WAIT
from pipeline.serve.connections import PIPELINED, ConnectionLimits
from pipeline.serve.openapi import document
from pipeline.serve.page_question import FIELDS, Question, read
from pipeline.serve.page_route import LONGEST_WAIT as LONGEST_PAGE_WAIT
from pipeline.serve.pages import KEPT_PAGES, MAKERS
from pipeline.serve.parameters import DEFAULT_LIMITS
from pipeline.timeline import WIDTHS
from tests.bounded import LIMIT, finished, started
from tests.documented import blocks

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BIN: Final = Path(sys.executable).parent


SERVERS: Final = [block for block in blocks(TEXT, "bash") if "mka1-usage serve" in block]
QUESTIONS: Final = [
    line for block in blocks(TEXT, "bash") if block not in SERVERS for line in block.splitlines()
]


@contextmanager
def server(command: str, home: Path, port: int) -> Iterator[str]:
    """The server of a command, on another port; what it says once it serves."""
    with started(
        ["bash", "-euo", "pipefail", "-c", command.replace("8788", str(port))],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("MKA1")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "MKA1_USAGE_HOME": str(home),
        },
        stdout=DEVNULL,
        stderr=PIPE,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert f"serving {home}" in said, said
        yield said + process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)  # to the shell and the server, as a terminal does
        assert process.wait(LIMIT) == 0


@pytest.fixture(scope="module")
def port() -> int:
    """Where the first server of the document is while its questions are asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


@pytest.fixture(scope="module")
def served(home: Path, port: int) -> Iterator[str]:
    """What the first server of the document says; it is there until the end."""
    with server(SERVERS[0], home, port) as said:
        yield said


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("command", QUESTIONS)
def test_a_question_has_an_answer(command: str, port: int) -> None:
    moved = command.replace("8788", str(port))
    done = finished(["bash", "-c", moved])
    answer = json.loads(done.stdout)
    assert answer["openapi" if "openapi" in command else "data"]


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("snippet", blocks(TEXT, "python"))
def test_the_snippet_of_the_published_client_runs(snippet: str, port: int) -> None:
    moved = snippet.replace("8788", str(port))
    done = finished([sys.executable, "-c", moved])
    assert "key_web" in done.stdout


def test_a_server_says_how_to_ask_it(served: str) -> None:
    assert "to this machine only" in served
    [asked] = re.findall(r"^  (curl .*)$", served, re.MULTILINE)
    done = finished(["bash", "-c", f"{asked} -s"])
    assert json.loads(done.stdout)["data"]


@pytest.mark.parametrize("command", SERVERS[1:])
def test_another_server_starts_and_says_who_is_let_in(
    command: str, home: Path, unused_port: int
) -> None:
    with server(command, home, unused_port) as said:
        assert "to those who have a key" in said
        assert '-H "Authorization: Bearer $KEY"' in said


def test_what_is_new_or_left_out_is_named() -> None:
    table = TEXT.partition("## Where it differs")[2]
    operation = document(by_key=True)["paths"]["/api/v1/llm/usage/conversations"]["get"]
    new = {it["name"] for it in operation["parameters"] if it.get("x-extension")}
    assert new == {"names", "tz"}
    for width, limit in DEFAULT_LIMITS.items():
        assert f"`{width}`" in table
        assert width not in WIDTHS or f"{limit} at `{width}`" in table
    assert set(re.findall(r"\b[45]\d\d\b", table)) - {"429"} == set(operation["responses"]) - {
        *("200", "304")
    } | {"404", "405"}


def test_the_page_is_as_the_document_says() -> None:
    section = " ".join(
        TEXT.partition("## The report in a browser")[2].partition("\n## ")[0].split()
    )
    rows = re.findall(r"^\| (`.*?) \|", TEXT.partition("| Parameter |")[2], re.MULTILINE)
    assert re.findall("`(.*?)`", " ".join(rows))[: len(FIELDS)] == [*FIELDS]
    assert f"{KEPT_PAGES >> 20} MB at most; two pages are made at once" in section
    assert MAKERS == 2
    assert f"what takes longer than {LONGEST_PAGE_WAIT:.0f} is asked for again" in section
    for address in re.findall(r"`/\?(.*?)`", section):
        assert isinstance(read(address.encode()), Question)


def test_its_bounds_are_those_of_the_server() -> None:
    bounds = TEXT.partition("## What bounds it")[2].partition("\n## ")[0]
    limits = ConnectionLimits()
    for said in (
        f"a request has {limits.request:.0f} seconds to come in",
        f"the next one on a connection {limits.idle} to begin",
        f"at {limits.slowest >> 10} kB a second, after {limits.unread:.0f} seconds",
        f"{limits.most:,} or",
        f"{KEPT_BYTES >> 20} MB for pages that are kept",
        f"{limits.unread_bytes >> 20} MB for those that clients have not taken",
        f"{limits.held_bytes >> 20} MB for what has come of requests",
        f"{WAITING_BYTES >> 20} MB for requests whose page is being made",
        f"and {QUEUE:,} wait",
        f"not there after {LONGEST_WAIT:.0f} seconds",
        f"{PIPELINED} wait behind the one",
    ):
        assert said in " ".join(bounds.split())
