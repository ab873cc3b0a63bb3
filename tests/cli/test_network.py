"""What the environment says of the way to the API is one line, whatever command goes there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from pipeline.definitions import build_defs
from pipeline.orchestration.partitions import range_tags
from pipeline.orchestration.schedules import JOB
from pipeline.timeline import day_of, parse_time
from tests.fixtures_local import clean_environment, command

BAD: list[tuple[Mapping[str, str], str]] = [
    ({"HTTPS_PROXY": "socks4://user:s3cret@p:1"}, "HTTPS_PROXY: socks4://p:1 is of a kind"),
    ({"all_proxy": "http://user:s3cret@p:abc"}, "all_proxy: http://p:… is no URL of a proxy"),
    ({"SSL_CERT_FILE": "/none/c.pem"}, "SSL_CERT_FILE: /none/c.pem can't be read (No such file"),
    ({"SSL_CERT_DIR": "/none"}, "SSL_CERT_DIR: /none can't be read (No such file"),
    ({"SSLKEYLOGFILE": "/none/keys"}, "SSLKEYLOGFILE: /none/keys can't be written to"),
]
COMMANDS = [
    "run --start 2024-01-01 --end 2024-01-02",
    "refresh",
    "probe --conversation c --items 1",
]


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    account = {"MKA1_BASE_URL": "https://gateway.example", "MKA1_API_KEY": "k-planted"}
    clean_environment(monkeypatch, tmp_path, account)


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.parametrize(("variables", "words"), BAD)
def test_a_setting_that_cannot_be_used_ends_a_command_before_it_begins(
    variables: Mapping[str, str],
    words: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ended = command(line.split())
    assert ended.code == 2
    assert ended.err.startswith(f"mka1-usage: error: {words}")
    assert len(ended.err.splitlines()) == 1
    assert "s3cret" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_dagster_is_told_so_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none/c.pem")
    day = day_of(parse_time("2024-01-01"))
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        result = (
            build_defs()
            .resolve_job_def(JOB)
            .execute_in_process(instance=instance, tags=range_tags(day, day), raise_on_error=False)
        )
    (failure,) = (one for one in result.all_events if one.event_type_value == "STEP_FAILURE")
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert str(data.description).startswith("SSL_CERT_FILE: /none/c.pem can't be read")


def test_the_way_is_said_before_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cret@127.0.0.1:{unused_port}")
    monkeypatch.setenv("MKA1_USAGE_RETRY_SECONDS", "0")
    ended = command(COMMANDS[0].split())
    way = f"through the proxy http://127.0.0.1:{unused_port} of HTTPS_PROXY"
    lines = ended.err.splitlines()
    assert ended.code == 1
    assert lines[0] == f"mka1-usage: to https://gateway.example: {way}"
    assert sum(f"({way})" in line for line in lines) == 1
    assert "s3cret" not in ended.err
