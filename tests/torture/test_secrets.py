"""A key and a person are planted; runs go well and badly; then every byte they left is searched.

`mka1-usage` runs in a process of its own, with a home of its own, through the real Dagster jobs:
command after command in one of them, and the server in another.
The same is done without pseudonyms: there the person is found, so the search can find.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGINT
from subprocess import PIPE
from typing import Any, Final, Self
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.emulator import EmulatorServer, Faults, World
from pipeline.export.tables import DEFAULT
from pipeline.lake.schemas import DATASETS
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import ENDPOINTS
from pipeline.timeline import parse_time
from tests.bounded import LIMIT, finished, read_until, started
from tests.loopback import answering
from tests.torture.search import disguises, everything, finds, places

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, "-c", "from pipeline.cli import main; main()"]
COMMANDS = """
import json, os, sys
from pathlib import Path
from pipeline.cli import main
codes, streams, ended = [], [], Path(sys.argv[1])
for arguments, environment in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["mka1-usage", *arguments]
    sys.stderr = sys.__stderr__
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
    streams.append(sys.stderr)  # one that goes closes what is below it
ended.write_text(json.dumps(codes))
"""
"""The same for commands and environments from stdin, one after another: it starts but once."""

KEY = "mka1/planted+Secret=0123456789abcdef"
REFUSED_KEY = "mka1/refused+Secret=0123456789abcdef"
PSEUDONYM_KEY = "planted+pseudonym/key=0123456789"
PERSON = "zaphod+4711@planted.example"
SERVE_KEY = "mka1/served+Secret=0123456789abcdef"
SECRETS = (KEY, REFUSED_KEY, PSEUDONYM_KEY, SERVE_KEY)

START = parse_time("2024-01-01")
WINDOW = ["--start", "2024-01-01", "--end", "2024-01-03"]
SAID = [{"type": "message", "role": "user", "content": "hello"}]

FLAKY: Faults = Faults(
    rates={"rate_limited": 0.06, "server_error": 0.06, "reset": 0.04, "not_json": 0.04},
    max_consecutive=2,
    touch_rate=0.2,
    extra_fields={"email": PERSON},
    forbidden=frozenset({f"{PERSON}-forbidden"}),
)


def world() -> World:
    """Two days of a few users, all called after one person, as their metadata are."""
    world = World()
    for number, suffix in enumerate(("", "-forbidden", "-odd", "\n", "-other")):
        user = f"{PERSON}{suffix}"
        for day in (0, 1):
            at = START + 86_400 * day + 600 * number
            for key in ("key_web", "key_mobile"):
                name = world.create_conversation(at, user, key, {"email": user})
                world.add_response(name, at + 60, SAID * 2)
                if suffix == "-odd":  # its listing fails: what the API says of it has no such shape
                    world.add_items(name, [{"type": "call", "role": 7}], at + 120)
    return world


@dataclass(frozen=True, slots=True)
class Left:
    """What commands left behind: the folder of all their files, and all that they printed."""

    folder: Path
    out: bytes
    err: bytes
    codes: tuple[int, ...]
    arguments: frozenset[bytes] = frozenset()
    """Of every process that was seen, as `ps` shows them to all."""
    there: Mapping[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])
    """All that is in the folder."""


def live(folder: Path, settings: Mapping[str, str]) -> Left:
    """What is left of a life, and what could be seen of its processes meanwhile."""
    with Processes() as processes:
        left = _live(folder, settings)
    there = everything(folder)
    return replace(left, arguments=frozenset(processes.arguments), there=there)


def _live(folder: Path, settings: Mapping[str, str]) -> Left:
    """A hard life: a server that refuses, a flaky one with a refused key, then all that reads."""
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(parents=True)
    environment = {
        **{name: it for name, it in os.environ.items() if not name.startswith(("MKA1", "DAGSTER"))},
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder / "home"),
        "MKA1_USAGE_HOME": str(folder / "home" / "data"),
        "MKA1_API_KEY": KEY,
        "MKA1_USAGE_REQUESTS_PER_SECOND": "10000",
        "MKA1_USAGE_ENDPOINTS": ",".join(ENDPOINTS),
        **settings,
    }
    asked: list[tuple[list[str], dict[str, str]]] = []

    def command(*args: str, **more: str) -> None:
        asked.append(([*args], {**environment, **more}))

    with answering(400) as gone:
        pass
    refusal = f"no such user: {PERSON}, Authorization: Bearer {KEY}".encode()
    with answering(400, body=refusal) as stranger, EmulatorServer(world(), FLAKY) as server:
        command("run", *WINDOW, MKA1_BASE_URL=stranger.url)
        server.api_keys = {"key_web": KEY, "key_mobile": f"{KEY}-mobile"}
        ring = f"key_web={KEY},key_mobile={REFUSED_KEY}"
        command("run", *WINDOW, MKA1_BASE_URL=server.base_url, MKA1_API_KEYS=ring)
        environment["MKA1_BASE_URL"] = gone.url
        command("reconcile")
        command("buckets", "--start", "2024-01-01", "--group-by", "user_id", "--user-id", PERSON)
        command("sql", "from usage_1d")
        command("sql", "--format", "csv", "from conversations")
        names = folder.parent / f"names of {folder.name}.csv"
        names.write_text(f"kind,id,name\nuser,{PERSON},{PERSON} by name\n", encoding="utf-8")
        for args in reading(names):
            command(*args)
        codes = folder.parent / f"codes of {folder.name}.json"
        done = finished(
            [sys.executable, "-c", COMMANDS, codes],
            text=json.dumps(asked),
            cwd=folder / "work",
            env=environment,
        )
    serve(folder / "work", environment)
    ended = tuple(json.loads(codes.read_text(encoding="utf-8")))
    return Left(folder, done.stdout.encode(), done.stderr.encode(), ended)


LANDED: Final = [name for name in DATASETS if name not in {*DEFAULT, "item_contents"}]


def reading(names: Path) -> Iterator[list[str]]:
    """Every command that shows what is loaded, or makes files of it."""
    window = ["--start", "2024-01-01", "--end", "2024-01-03"]
    yield ["report", "-o", "report.html", "--png", "pictures", *window]
    every = [word for name in (*DEFAULT, *LANDED) for word in ("--table", name)]
    for form in ("parquet", "csv", "duckdb"):
        yield ["export", f"export-{form}", "--format", form, *every[:8], "--names", str(names)]
    yield ["export", "all of it", *every, "--partition-by", "day"]
    yield from (["status"], ["verify"], ["alerts", "--at", "2024-01-03"])
    yield ["sql", "from coverage limit 3"]
    yield ["doctor", "--deep", "--patience", "2"]


READ: Final = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
"""How those end; the doctor finds that the API is not there any more."""


def serve(folder: Path, environment: Mapping[str, str]) -> None:
    """Serve pages that name users, and keep in `folder` what was answered and what was said."""
    ready = r"on (http://[^ ]+) until"
    command = [*MAIN, "serve", "--port", "0"]
    pipes: dict[str, Any] = {"stdout": PIPE, "stderr": PIPE}
    keys = {"MKA1_USAGE_SERVE_KEYS": SERVE_KEY}
    with started(command, cwd=folder, env={**environment, **keys}, **pipes) as process:
        assert process.stderr is not None
        said = read_until(ready, process.stderr)
        [url] = re.findall(ready, said)
        bodies = b""
        for query in ("group_by=user_id", f"user_ids={quote(PERSON)}", "bucket_width=2y", "page=x"):
            for key in (SERVE_KEY, "no key of this server"):
                asked = Request(
                    f"{url}/api/v1/llm/usage/conversations?start_time={START}&{query}",
                    headers={"Authorization": f"Bearer {key}"},
                )
                try:
                    with urlopen(asked, timeout=LIMIT) as answer:
                        bodies += answer.read() + str(answer.headers).encode()
                except HTTPError as error:
                    bodies += error.read() + str(error.headers).encode()
        process.send_signal(SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    (folder / "served").write_bytes(bodies + said.encode() + out.encode() + err.encode())


class Processes(threading.Thread):
    """Watches the processes that this one starts, and those that they start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.arguments: set[bytes] = set()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(LIMIT)

    def run(self) -> None:
        """Look again and again: a process lasts for some time."""
        while not self._over.wait(0.02):
            for child in _children(os.getpid()):
                with suppress(OSError):
                    self.arguments.add(Path("/proc", child, "cmdline").read_bytes())


def _children(parent: int | str) -> Iterator[str]:
    """All that are below a process."""
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):
            for child in listed.read_text().split():
                yield child
                yield from _children(child)


def assert_hard(left: Left, landed: str, told: str) -> None:
    """What was searched holds results, failures and gaps: it is not clean for being empty.

    `landed` is what a user is called whose listing was read, `told` one whose listing was not.
    """
    assert left.codes == (1, 1, 0, 0, 0, 0, *READ), left.err.decode()
    for said in (
        *("refused with 400", "key key_mobile: ", "refused with 401", "refused with 403"),
        *("can't be asked for", "not a page of items", "listings read and"),
    ):
        assert said in left.err.decode()
    found = places(left.there, landed)
    for kind in (
        "served",
        "report.html",
        "export-csv/",
        "export-parquet/",
        "all of it/",
        ".duckdb",
    ):
        assert any(kind in path for path in found), kind
    for kind in ("usage_1m.p", "raw_usage.p", "conversations.p", "reconciliation.p", "listings.p"):
        assert any(kind in path for path in found), kind
    assert finds([left.out], landed)
    assert any(path.endswith(".db") for path in places(left.there, told)), "Dagster's storage"
    assert finds([left.err], told)


def assert_no_secret(left: Left) -> None:
    for secret in SECRETS:
        assert places(left.there, secret) == []
        assert not finds([left.out, left.err, *left.arguments], secret)
    assert any(b"serve" in arguments for arguments in left.arguments)


def test_under_pseudonyms_neither_a_key_nor_a_person_is_found_anywhere(tmp_path: Path) -> None:
    left = live(tmp_path / "life", {"MKA1_USAGE_PSEUDONYM_KEY": PSEUDONYM_KEY})
    assert places(left.there, PERSON) == []
    assert not finds([left.out, left.err], PERSON)
    assert_no_secret(left)
    pseudonyms = Pseudonyms(SecretStr(PSEUDONYM_KEY))
    assert_hard(left, pseudonyms.of(PERSON), pseudonyms.of(f"{PERSON}-forbidden"))


def test_without_pseudonyms_no_key_is_found_and_the_person_is_everywhere(tmp_path: Path) -> None:
    """The control: the same life, searched in the same way."""
    left = live(tmp_path / "life", {})
    assert_no_secret(left)
    assert_hard(left, PERSON, f"{PERSON}-forbidden")


# The search itself


def _parquet(path: Path, text: str) -> None:
    pq.write_table(pa.table({"a": [text] * 3, "b": [1, 2, 3]}), path, compression="zstd")


def _footer(path: Path, text: str) -> None:
    schema = pa.schema([("a", pa.int64())], metadata={"note": text})
    pq.write_table(pa.table({"a": [1]}, schema=schema), path)


def _nested(path: Path, text: str) -> None:
    pq.write_table(pa.table({"a": [[{"b": text}]]}), path, compression="zstd")


def _arrow(path: Path, text: str) -> None:
    table = pa.table({"a": pa.array([text] * 999).dictionary_encode()})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), table.schema, options=options) as file:
        file.write_table(table)


def _sqlite(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as con:
        con.execute("CREATE TABLE t (a)")
        # Longer than a page: in the file it is in pieces.
        con.execute("INSERT INTO t VALUES (?)", ["".join(f"{n}{text}" for n in range(999))])
        con.commit()


def _duckdb(path: Path, text: str) -> None:
    with closing(duckdb.connect(str(path))) as con:
        con.execute("CREATE TABLE t AS SELECT concat(?, i % 7) AS a FROM range(9999) r(i)", [text])


def _comment(path: Path, text: str) -> None:
    with closing(duckdb.connect(str(path))) as con:
        con.execute("CREATE TABLE t (a INTEGER)")
        con.execute(f"COMMENT ON COLUMN t.a IS '{text}'")


def _text(path: Path, text: str) -> None:
    path.write_text(text)


HIDING = {"parquet": _parquet, "footer": _footer, "nested": _nested, "arrow": _arrow}
HIDING |= {"sqlite": _sqlite, "text": _text, "duckdb": _duckdb, "comment": _comment}


@pytest.mark.parametrize("secret", [KEY, PERSON, "käthe 漢字"])
@pytest.mark.parametrize("kind", HIDING)
def test_the_search_finds_what_is_hidden(tmp_path: Path, kind: str, secret: str) -> None:
    folder = tmp_path / "a" / ".b"
    folder.mkdir(parents=True)
    HIDING[kind](folder / "x", f"before {secret} after")
    HIDING[kind](folder / "y", "before nobody after")
    assert places(everything(tmp_path), secret) == ["a/.b/x"]


@pytest.mark.parametrize("secret", [KEY, PERSON, "käthe 漢字"])
def test_the_search_knows_a_secret_in_each_of_its_forms(tmp_path: Path, secret: str) -> None:
    for number, form in enumerate(sorted(disguises(secret))):
        (tmp_path / f"{number}").write_bytes(b"before" + form + b"after")
    assert len(places(everything(tmp_path), secret)) == len(disguises(secret)) > 5
    (tmp_path / secret.replace("/", "-")).touch()
    assert finds([str(list(tmp_path.iterdir())).encode()], secret.replace("/", "-"))
