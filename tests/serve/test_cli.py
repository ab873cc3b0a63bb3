"""`mka1-usage serve` as a person uses it: who is let in, and one line for what cannot be."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.emulator import EmulatorServer, World
from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import claim
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import SettingsError, load_settings
from pipeline.timeline import day_of, day_range
from tests.fixtures_local import clean_environment, command
from tests.serve.asking import END, KEYS, START, ask, client, serving
from tests.truth import load

WINDOW = f"start_time={START}&end_time={END}&group_by=user_id"
PSEUDONYM_KEY = "planted-" + "9e1d07" * 4


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    monkeypatch.setenv("MKA1_USAGE_SERVE_KEYS", "")
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(home)})


REFUSED: list[tuple[str, Mapping[str, str], int, str]] = [
    ("--port 65536", {}, 2, "--port"),
    ("--port x", {}, 2, "--port"),
    ("--host 0.0.0.0", {}, 2, "--host 0.0.0.0 lets other machines in: set MKA1_USAGE_SERVE_KEYS"),
    ("--host ::", {}, 2, "--host :: lets other machines in"),
    ("--host 10.0.0.1", {}, 2, "--host 10.0.0.1 lets other machines in"),
    ("--host usage.example", {}, 2, "--host is 'usage.example': it must be an IP address"),
    ("", {"MKA1_USAGE_SERVE_KEYS": "short"}, 2, "entry 1 is shorter than 16 characters"),
    ("", {"MKA1_USAGE_HOME": "nowhere"}, 1, "nothing is loaded in nowhere/lake: load days with"),
    (
        "--host 192.0.2.1",
        {"MKA1_USAGE_SERVE_KEYS": KEYS[0]},
        1,
        "192.0.2.1 is no address of this machine",
    ),
]


@pytest.mark.parametrize(("args", "environment", "code", "error"), REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    args: str,
    environment: Mapping[str, str],
    code: int,
    error: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = command(["serve", *args.split()])
    assert ended.code == code
    assert error in " ".join(re.sub("[│╭╮╰╯─]", " ", ended.err).split())
    assert "Traceback" not in ended.err
    assert ended.out == b""


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = command(["serve", "--port", str(port)])
    assert ended.code == 1
    assert f"error: port {port} on 127.0.0.1 is in use" in ended.err


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (",", "holds no key"),
        (" ", "holds no key"),
        (f"{KEYS[0]},{KEYS[0][:15]}", "entry 2 is shorter than 16 characters"),
        (f"{KEYS[0]},two words that are long", "entry 2 holds characters that no key has"),
        (f"{KEYS[0]},sechzehn-Zeichen-é", "entry 2 holds characters that no key has"),
    ],
)
def test_keys_that_cannot_be_are_counted_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, value: str, error: str
) -> None:
    monkeypatch.setenv("MKA1_USAGE_SERVE_KEYS", value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value).startswith(f"MKA1_USAGE_SERVE_KEYS: {error}")
    assert "5ec2e7" not in str(refusal.value)


def test_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKA1_USAGE_SERVE_KEYS", f" {KEYS[0]} ,{KEYS[1]},")
    settings = load_settings()
    assert [key.get_secret_value() for key in settings.serve_keys] == list(KEYS)
    assert "5ec2e7" not in repr(settings)


# A lake with pseudonyms


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, traffic: World) -> Path:
    """A home whose lake knows users by pseudonyms alone."""
    folder = tmp_path_factory.mktemp("private")
    names = load_settings(pseudonym_key=PSEUDONYM_KEY).pseudonyms
    assert names is not None
    lake = Lake(folder / "lake")
    claim(lake, names.fingerprint)
    with EmulatorServer(traffic) as api:
        load(api, lake, list(day_range(day_of(START), day_of(END - 1))), pseudonyms=names)
    return folder


def test_users_are_asked_for_by_their_ids_and_answered_with_their_pseudonyms(
    private: Path, traffic: World
) -> None:
    settings = load_settings(pseudonym_key=PSEUDONYM_KEY)
    names = settings.pseudonyms
    assert isinstance(names, Pseudonyms)
    with (
        serving(private, pseudonym_key=PSEUDONYM_KEY) as server,
        client(server.url) as http,
    ):
        page = ask(http, f"{WINDOW}&user_ids=user_0000").json()["data"]
    expected = traffic.usage(START, END, "1d", ["user_id"], ["user_0000"])
    for bucket in expected:
        for result in bucket["results"]:
            result["user_id"] = names.of(result["user_id"])
    assert page == expected


@pytest.mark.parametrize("key", [None, "another-" + "9e1d07" * 4])
def test_without_the_key_of_the_pseudonyms_users_cannot_be_asked_for(
    private: Path, key: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(private, pseudonym_key=key) as server, client(server.url) as http:
        assert ask(http, WINDOW).status_code == 200
        answer = ask(http, f"{WINDOW}&user_ids=user_0000")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("user_ids is not known here")
    assert str(private) not in answer.text
    assert "MKA1_USAGE_PSEUDONYM_KEY" in capfd.readouterr().err
