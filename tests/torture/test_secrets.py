"""A key and a person are planted; runs go well and badly; then every byte they left is searched.

`mka1-usage` runs as a process of its own, with a home of its own, through the real Dagster jobs.
The same is done without pseudonyms: there the person is found, so the search can find.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.emulator import EmulatorServer, Faults, World
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import parse_time
from tests.bounded import finished
from tests.loopback import answering
from tests.torture.search import disguises, finds, places

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, "-c", "from pipeline.cli import main; main()"]

KEY = "mka1/planted+Secret=0123456789abcdef"
REFUSED_KEY = "mka1/refused+Secret=0123456789abcdef"
PSEUDONYM_KEY = "planted+pseudonym/key=0123456789"
PERSON = "zaphod+4711@planted.example"
SECRETS = (KEY, REFUSED_KEY, PSEUDONYM_KEY)

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


def live(folder: Path, settings: Mapping[str, str]) -> Left:
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
        **settings,
    }
    out, err, codes = b"", b"", list[int]()

    def command(*args: str, **more: str) -> None:
        nonlocal out, err
        done = finished(
            [*MAIN, *args], cwd=folder / "work", env={**environment, **more}, check=False
        )
        out, err = out + done.stdout.encode(), err + done.stderr.encode()
        codes.append(done.returncode)

    refusal = f"no such user: {PERSON}, Authorization: Bearer {KEY}".encode()
    with answering(400, body=refusal) as stranger:
        command("run", *WINDOW, MKA1_BASE_URL=stranger.url)
    with EmulatorServer(world(), FLAKY) as server:
        server.api_keys = {"key_web": KEY, "key_mobile": f"{KEY}-mobile"}
        ring = f"key_web={KEY},key_mobile={REFUSED_KEY}"
        command("run", *WINDOW, MKA1_BASE_URL=server.base_url, MKA1_API_KEYS=ring)
    command("reconcile")
    command("buckets", "--start", "2024-01-01", "--group-by", "user_id", "--user-id", PERSON)
    command("sql", "from usage_1d")
    command("sql", "--format", "csv", "from conversations")
    return Left(folder, out, err, tuple(codes))


def assert_hard(left: Left, landed: str, told: str) -> None:
    """What was searched holds results, failures and gaps: it is not clean for being empty.

    `landed` is what a user is called whose listing was read, `told` one whose listing was not.
    """
    assert left.codes == (1, 1, 0, 0, 0, 0), left.err.decode()
    for said in (
        *("refused with 400", "key key_mobile: ", "refused with 401", "refused with 403"),
        *("can't be asked for", "not a page of items", "listings read and"),
    ):
        assert said in left.err.decode()
    found = places(left.folder, landed)
    for kind in ("usage_1m.p", "raw_usage.p", "conversations.p", "reconciliation.p", "listings.p"):
        assert any(kind in path for path in found), kind
    assert finds([left.out], landed)
    assert any(path.endswith(".db") for path in places(left.folder, told)), "Dagster's storage"
    assert finds([left.err], told)


def assert_no_secret(left: Left) -> None:
    for secret in SECRETS:
        assert places(left.folder, secret) == []
        assert not finds([left.out, left.err], secret)


def test_under_pseudonyms_neither_a_key_nor_a_person_is_found_anywhere(tmp_path: Path) -> None:
    left = live(tmp_path / "life", {"MKA1_USAGE_PSEUDONYM_KEY": PSEUDONYM_KEY})
    assert places(left.folder, PERSON) == []
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


def _text(path: Path, text: str) -> None:
    path.write_text(text)


HIDING = {"parquet": _parquet, "footer": _footer, "nested": _nested, "arrow": _arrow}
HIDING |= {"sqlite": _sqlite, "text": _text}


@pytest.mark.parametrize("secret", [KEY, PERSON, "käthe 漢字"])
@pytest.mark.parametrize("kind", HIDING)
def test_the_search_finds_what_is_hidden(tmp_path: Path, kind: str, secret: str) -> None:
    folder = tmp_path / "a" / ".b"
    folder.mkdir(parents=True)
    HIDING[kind](folder / "x", f"before {secret} after")
    HIDING[kind](folder / "y", "before nobody after")
    assert places(tmp_path, secret) == ["a/.b/x"]


@pytest.mark.parametrize("secret", [KEY, PERSON, "käthe 漢字"])
def test_the_search_knows_a_secret_in_each_of_its_forms(tmp_path: Path, secret: str) -> None:
    for number, form in enumerate(sorted(disguises(secret))):
        (tmp_path / f"{number}").write_bytes(b"before" + form + b"after")
    assert len(places(tmp_path, secret)) == len(disguises(secret)) > 5
    (tmp_path / secret.replace("/", "-")).touch()
    assert finds([str(list(tmp_path.iterdir())).encode()], secret.replace("/", "-"))
