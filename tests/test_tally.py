"""Every request that a client sends is counted, by key and day, and outlasts the run."""

from __future__ import annotations

import asyncio
import stat
from datetime import date
from itertools import repeat
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.api import ApiError, Client, Limits, UsageQuery, get_usage
from pipeline.emulator import EmulatorServer, Faults
from pipeline.resources import Workspace
from pipeline.settings import load_settings
from pipeline.tally import Meter, Tallied, read_tally, tally_file
from pipeline.timeline import DAY
from tests.alerts.history import FIRST, START
from tests.bounded import at_once
from tests.dagster_edges.lab import small_world


def counted(folder: Path, day: date = FIRST) -> tuple[int, int]:
    """Requests and refusals of a day, all keys together."""
    lines = read_tally(folder, day)
    return sum(one.requests for one in lines), sum(one.refused for one in lines)


@pytest.mark.parametrize("requests", [1, 49, 50, 51, 1_234])
def test_what_was_sent_is_on_disk_when_the_client_is_done(tmp_path: Path, requests: int) -> None:
    meter = Meter(tmp_path, "web", lambda: START + 5.0)
    for _ in range(requests):
        meter.sent()
    assert counted(tmp_path)[0] == requests // 50 * 50
    meter.close()
    assert counted(tmp_path) == (requests, 0)
    assert {one.key for one in read_tally(tmp_path, FIRST)} == {"web"}


def test_a_client_that_asked_nothing_leaves_nothing(tmp_path: Path) -> None:
    Meter(tmp_path / "requests", "web", lambda: 0.0).close()
    assert list(tmp_path.iterdir()) == []


def test_a_day_is_a_file_of_its_own_for_its_owner_alone_and_a_month_of_them_stays(
    tmp_path: Path,
) -> None:
    for number in (0, 1, 2, 33):
        meter = Meter(tmp_path, "web", repeat(float(START + number * DAY)).__next__)
        meter.sent()
        meter.close()
    files = sorted(tmp_path.iterdir())
    assert [path.stem for path in files] == ["2024-01-03", "2024-02-03"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    def run() -> None:
        meter = Meter(tmp_path, "web", lambda: START)
        for _ in range(5_000):
            meter.sent()
        meter.close()

    at_once([run] * 4)
    assert counted(tmp_path) == (20_000, 0)


def test_lines_that_were_cut_short_are_no_lines(tmp_path: Path) -> None:
    good = b'{"at": "2024-01-01T01:00:00Z", "key": "web", "requests": 3, "refused": 1}\n'
    bad = [b'{"at": "2024-01-01T0', b"\xff", b"[]", b"7", b'{"at": 5}', b'{"at": 5, "key": 1}']
    tally_file(tmp_path, FIRST).write_bytes(good + b"\n".join(bad) + b"\n" + good)
    assert read_tally(tmp_path, FIRST) == [Tallied(START + 3_600, "web", 3, 1)] * 2


def test_a_folder_that_cannot_be_written_fails_no_load(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text("a file")
    meter = Meter(tmp_path / "requests", "web", lambda: START)
    meter.sent()
    meter.close()


async def asking(client: Client, times: int) -> None:
    async with client:
        for _ in range(times):
            await get_usage(client, UsageQuery(START, START + 60, "1m"))


@pytest.mark.parametrize("refused", [False, True])
def test_a_client_counts_retries_and_refusals_and_writes_no_secret(
    tmp_path: Path, refused: bool
) -> None:
    with EmulatorServer(small_world(), Faults(quota=0) if refused else None) as server:
        meter = Meter(tmp_path, "web", lambda: START)
        limits = Limits(attempts=3, longest_wait=0.001, requests_per_second=10_000)
        client = Client(server.base_url, SecretStr(server.api_key), limits, meter=meter)
        if refused:
            with pytest.raises(ApiError):
                asyncio.run(asking(client, 1))
        else:
            asyncio.run(asking(client, 3))
        assert len(server.requests) == 3
    assert counted(tmp_path) == (3, 3 if refused else 0)
    assert server.api_key.encode() not in tally_file(tmp_path, FIRST).read_bytes()


def test_a_workspace_counts_by_key_id(tmp_path: Path) -> None:
    with EmulatorServer(small_world()) as server:
        settings = load_settings(
            base_url=server.base_url,
            api_key=server.api_key,
            api_keys=server.api_keys,
            home=tmp_path,
        )
        workspace = Workspace(load=lambda: settings, now=lambda: START)
        asyncio.run(asking(workspace.connect(), 2))
        for connect in workspace.connect_each().values():
            asyncio.run(asking(connect(), 1))
    lines = read_tally(settings.tally, FIRST)
    assert {(one.key, one.requests) for one in lines} == {
        ("MKA1_API_KEY", 2),
        *((key, 1) for key in server.api_keys),
    }
