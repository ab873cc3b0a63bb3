"""`mka1-usage alerts`: lines, exit codes, and what it says where there is nothing to say."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.emulator import EmulatorServer, Event, World
from pipeline.lake.catalog import build_catalog
from pipeline.lake.store import Lake
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import DAY, Window, iso
from tests.alerts.history import HOUR, START, History
from tests.fixtures_local import clean_environment, command
from tests.notify.receivers import hooks
from tests.truth import load

NOW = START + 29 * DAY + HOUR + 60


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment(monkeypatch, tmp_path, {"MKA1_USAGE_HOME": str(tmp_path / "home")})


def month(tmp_path: Path, last_hour: int, days: int = 30) -> None:
    """A month of 100 operations an hour, up to the hour that ends before NOW."""
    history = History(days=days)
    for hour in range(START, START + 29 * DAY, HOUR):
        history.use(hour, 100)
    if last_hour:
        history.use(START + 29 * DAY, last_hour)
    history.publish(tmp_path / "home", through=NOW)


def test_where_all_is_well_nothing_is_printed(tmp_path: Path) -> None:
    month(tmp_path, 100)
    ended = command(["alerts", "--at", iso(NOW)])
    assert (ended.code, ended.out, ended.err) == (0, b"", "")


def test_a_warning_is_a_line_on_stdout_and_no_failure(tmp_path: Path) -> None:
    month(tmp_path, 900)
    ended = command(["alerts", "--at", iso(NOW)])
    assert (ended.code, ended.err) == (0, "")
    user, key = ended.text.splitlines()
    assert user.startswith("warning: user u: 900 operations in the hour from ")
    assert key == (
        "warning: key k: 900 operations in the hour from 2024-01-30T00:00:00Z, 9.0 times its usual "
        "busiest hour of a day of 100 (9 of 10 of 28 days); look further: mka1-usage sql "
        "\"select user_id, sum(num_operations) as operations from usage_1h where api_key_id = 'k' "
        "and start_time >= timestamp '2024-01-30T00:00:00' "
        "and start_time < timestamp '2024-01-30T01:00:00' "
        'group by user_id order by operations desc, user_id limit 20"'
    )


def test_an_error_is_exit_code_1(tmp_path: Path) -> None:
    month(tmp_path, 0)
    ended = command(["alerts", "--at", iso(NOW)])
    assert ended.code == 1
    assert ended.text.startswith("error: no operations since 2024-01-30T00:00:00Z")


def test_without_a_time_it_is_now(tmp_path: Path) -> None:
    month(tmp_path, 100)
    ended = command(["alerts"])
    assert ended.code == 1
    assert "usage is complete through 2024-01-30T01:01:00Z only" in ended.text


@pytest.mark.parametrize(
    ("setting", "value", "printed"),
    [
        ("MKA1_USAGE_ALERT_SPIKE_TIMES", "9.1", False),
        ("MKA1_USAGE_ALERT_SPIKE_OPERATIONS", "901", False),
        ("MKA1_USAGE_ALERT_SPIKE_OPERATIONS", "900", True),
    ],
)
def test_thresholds_are_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, printed: bool
) -> None:
    month(tmp_path, 900)
    monkeypatch.setenv(setting, value)
    assert bool(command(["alerts", "--at", iso(NOW)]).out) == printed


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        ([], {}, 1, "nothing is loaded in home/lake: `mka1-usage run` loads"),
        (["--at", "soon"], {}, 2, "'soon' is not a time"),
        ([], {"MKA1_USAGE_ALERT_SPIKE_TIMES": "1"}, 2, "MKA1_USAGE_ALERT_SPIKE_TIMES: Input"),
        ([], {"MKA1_USAGE_ALERT_BASELINE_DAYS": "3"}, 2, "MKA1_USAGE_ALERT_BASELINE_DAYS: Input"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str],
    settings: dict[str, str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    ended = command(["alerts", *arguments])
    assert (ended.code, ended.out) == (code, b"")
    assert said in ended.err


def test_a_damaged_lake_is_one_line(tmp_path: Path) -> None:
    month(tmp_path, 100)
    path = Lake(tmp_path / "home" / "lake").files("usage_1h")[-1]
    path.chmod(0o600)
    path.write_bytes(b"no Parquet")
    ended = command(["alerts", "--at", iso(NOW)])
    assert (ended.code, ended.out) == (1, b"")
    assert [line.partition(" can't be")[0] for line in ended.err.splitlines()] == [
        "mka1-usage: error: spike:",
        "mka1-usage: error: zero:",
    ]


def test_pseudonyms_stay_pseudonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight days of one user, and on the ninth ten times as much."""
    key = "planted-pseudonym-key-0001"
    pseudonyms = Pseudonyms(SecretStr(key))
    noons = range(START + 12 * HOUR, START + 9 * DAY, DAY)
    world = World.from_events(
        [Event(noon, "alice", "k", 0, 0, 1_000 if noon == noons[-1] else 100) for noon in noons]
    )
    home = tmp_path / "home"
    lake = Lake(home / "lake")
    with EmulatorServer(world) as server:
        load(server, lake, Window(START, START + 9 * DAY).days, pseudonyms=pseudonyms)
    build_catalog(lake, home / "usage.duckdb")
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", key)
    ended = command(["alerts", "--at", iso(noons[-1] + HOUR)])
    assert ended.code == 0, ended.err
    assert f"user {pseudonyms.of('alice')}: 1,000 operations in the hour" in ended.text
    assert "alice" not in ended.text
    monkeypatch.setattr("time.time", lambda: float(noons[-1] + HOUR))
    with hooks() as slack, hooks() as webhook:
        monkeypatch.setenv("MKA1_USAGE_SLACK_WEBHOOK", slack.url)
        monkeypatch.setenv("MKA1_USAGE_WEBHOOK_URL", webhook.url)
        monkeypatch.setenv("MKA1_USAGE_WEBHOOK_SECRET", "whsec_" + "QUJD" * 8)
        assert command(["alerts", "--send"]).err == (
            "mka1-usage: sent: 1 message to slack, 1 message to webhook\n"
        )
        written = [*slack.posted, *webhook.posted]
        kept = (home / "messages" / "state.json").read_bytes()
    for content in [*(posted.body for posted in written), kept]:
        assert pseudonyms.of("alice").encode() in content
        assert b"alice" not in content
    line = next(one for one in ended.text.splitlines() if "user p_" in one)
    found = command(["sql", "--format", "csv", shlex.split(line)[-1]])
    assert found.text.splitlines()[-1].endswith(",k,1000")


# Sending


def test_what_would_be_sent_is_shown_without_a_channel_and_without_a_trace(tmp_path: Path) -> None:
    month(tmp_path, 900)
    ended = command(["alerts", "--send", "--dry-run", "--at", iso(NOW)])
    assert ended.code == 0
    first, began, what, follows = ended.text.splitlines()[:1] + ended.text.splitlines()[2:5]
    assert first == "2 warnings"
    assert began == "Began: warning, since 2024-01-30T00:00:00Z"
    assert what.startswith("  user u: 900 operations in the hour from ")
    assert follows.startswith("  $ mka1-usage sql ")
    assert "nobody would have it: no channel is set" in ended.err
    assert not (tmp_path / "home" / "messages").exists()


def test_what_is_sent_is_sent_once_and_a_channel_that_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month(tmp_path, 900)
    with hooks((404, {}, b"no_service"), (200, {}, b"ok")) as server:
        secret = "planted-5ec2e7"
        monkeypatch.setenv("MKA1_USAGE_SLACK_WEBHOOK", f"{server.url}/services/{secret}")
        shown = command(["alerts", "--send", "--dry-run", "--at", iso(NOW)])
        assert f"would be sent: 1 message to slack ({server.url})" in shown.err
        assert not server.posted
        failed, sent, again = (command(["alerts", "--send"]) for _ in range(3))
        assert len(server.posted) == 2
    assert f"error: slack: {server.url} answered 404: no_service" in failed.err
    assert "1 message for slack is kept, for the next --send" in failed.err
    assert "sent: 1 message to slack" in sent.err
    assert again.err == ""
    assert failed.text == sent.text == again.text
    assert secret not in shown.err + failed.err + sent.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alerts", "--send"], "no channel is set: set MKA1_USAGE_SLACK_WEBHOOK"),
        (["alerts", "--dry-run"], "--dry-run shows what --send would send: give both"),
        (["alerts", "--send", "--at", "2024-01-08"], "--send is about now: leave --at away"),
        (["digest", "--send"], "no channel is set: set MKA1_USAGE_SLACK_WEBHOOK"),
        (["digest", "--dry-run"], "--dry-run shows what --send would send: give both"),
    ],
)
def test_what_cannot_be_sent_is_one_line(arguments: list[str], said: str) -> None:
    ended = command(arguments)
    assert (ended.code, ended.out) == (2, b"")
    assert said in " ".join(ended.err.replace("│", " ").split())


def test_the_digest_of_a_week_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    month(tmp_path, 100)
    printed = command(["digest", "--at", iso(NOW)])
    assert printed.code == 0, printed.err
    assert printed.text.startswith("Usage of 22 to 28 January 2024: 16,800 operations\n")
    assert "  Operations: 16,800 (= as before)\n" in printed.text
    assert "$ mka1-usage report --start 2024-01-22 --end 2024-01-29\n" in printed.text
    assert "  u: 16,800 operations (= as before)\n" in printed.text
    ended = command(["digest"])
    assert (ended.code, ended.out) == (1, b"")
    assert "is loaded: load them with `mka1-usage run --start" in ended.err
    monkeypatch.setattr("time.time", lambda: float(NOW))
    with hooks() as server:
        monkeypatch.setenv("MKA1_USAGE_SLACK_WEBHOOK", server.url)
        sent, again = command(["digest", "--send"]), command(["digest", "--send"])
        assert len(server.posted) == 1
    assert sent.err == "mka1-usage: sent: 1 message to slack\n"
    assert again.err == "mka1-usage: the digest of that week was sent before\n"
