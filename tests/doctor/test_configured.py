"""Settings that are not what was meant are named, all of them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doctor.conftest import Look, told
from tests.test_settings import SECRET


def test_every_complaint_is_made_and_not_the_first_alone(
    place: pytest.MonkeyPatch, look: Look
) -> None:
    wrong = {
        "MKA1_BASE_URL": "ftp://x",
        "MKA1_API_KEY": f"{SECRET} {SECRET}",
        "MKA1_API_KEYS": SECRET,
        "MKA1_USAGE_CONCURRENCY": "many",
        "MKA1_USAGE_FIRST_DAY": "yesterday",
        "MKA1_USAGE_PSEUDONYM_KEY": "short",
    }
    for name, value in wrong.items():
        place.setenv(name, value)
    found = look("settings")
    assert [one.found.partition(":")[0] for one in found] == sorted(
        wrong, key=[one.found.partition(":")[0] for one in found].index
    )
    assert {one.state for one in found} == {"failed"}
    assert SECRET not in told(found)
    assert [one.state for one in look("DNS", "keys", "lake")] == ["skipped"] * 3


def test_a_complaint_that_another_one_hid_is_made_too(
    place: pytest.MonkeyPatch, look: Look
) -> None:
    place.setenv("MKA1_USAGE_STORE_CONTENT", "true")
    place.setenv("MKA1_USAGE_PSEUDONYM_KEY", "x" * 32)
    place.setenv("MKA1_USAGE_CONCURRENCY", "0")
    words = told(look("settings"))
    assert "MKA1_USAGE_CONCURRENCY" in words
    assert "MKA1_USAGE_PSEUDONYM_KEY: is set together with" in words


@pytest.mark.parametrize(
    ("name", "value", "lacks"),
    [
        ("MKA1_USAGE_CATALOG", "sqlite:////srv/catalog.db", "MKA1_USAGE_WAREHOUSE"),
        ("MKA1_USAGE_SMTP_URL", f"smtp://me:{SECRET}@mail.example.com", "MKA1_USAGE_MAIL_TO"),
    ],
)
def test_a_setting_without_the_other_that_it_needs_is_complained_of_once(
    name: str, value: str, lacks: str, place: pytest.MonkeyPatch, look: Look
) -> None:
    place.setenv(name, value)
    (complaint,) = [one for one in look("settings") if one.state == "failed"]
    assert complaint.found.startswith(f"{lacks}: is not set, and {name} is")
    assert SECRET not in told([complaint])


def test_a_key_that_is_not_set_is_what_a_run_lacks(place: pytest.MonkeyPatch, look: Look) -> None:
    place.setenv("MKA1_API_KEY", "")
    found = look("settings")
    assert [one.state for one in found] == ["failed"]
    assert found[0].found.startswith("MKA1_API_KEY is not set")
    assert "environment or in .env" in found[0].fix


SLIPS = [
    ("MKA1_USAGE_LOOKBACK", "MKA1_USAGE_LOOKBACK_DAYS"),
    ("MKA1_APIKEY", "MKA1_API_KEY"),
    ("MAK1_API_KEY", "MKA1_API_KEY"),
    ("MKA1_USAGE_HOMES", "MKA1_USAGE_HOME"),
    ("mka1_usage_concurency", "MKA1_USAGE_CONCURRENCY"),
    ("MKA_BASE_URL", "MKA1_BASE_URL"),
    ("MKA1_USAGE_ZZZZZZ", None),
]


@pytest.mark.parametrize(("name", "meant"), SLIPS)
@pytest.mark.parametrize("in_file", [True, False])
def test_a_name_that_looks_like_a_setting_is_asked_about(
    name: str,
    meant: str | None,
    in_file: bool,
    place: pytest.MonkeyPatch,
    look: Look,
    tmp_path: Path,
) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"{name}=5\n")
        (tmp_path / ".env").chmod(0o600)
    else:
        place.setenv(name, "5")
    warnings = [one for one in look("settings") if one.state == "warning"]
    assert [one.found for one in warnings] == [f"{name} is no setting, so it is ignored"]
    assert (f"is it {meant} that is meant?" == warnings[0].fix) is (meant is not None)


OTHERS = [
    *("HOME", "PATH", "API_KEY", "AWS_API_KEY", "DAGSTER_POSTGRES_HOST", "DAGSTER_HOMES"),
    *("mka1_api_key", "MKA1_API_KEY_2", "MKA1_API_KEY_PROD", "MKA1_TENANT", "MKA1_USAGE"),
]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_slip_is_not_asked_about(
    name: str, place: pytest.MonkeyPatch, look: Look
) -> None:
    place.setenv(name, os.environ.get(name, "something"))
    assert {one.state for one in look("settings")} == {"ok"}


def test_a_setting_that_is_two_things_at_once_is_named_without_its_value(
    place: pytest.MonkeyPatch, look: Look, tmp_path: Path, server: object
) -> None:
    (tmp_path / ".env").write_text(f"MKA1_API_KEY={SECRET}\nMKA1_USAGE_CONCURRENCY=4\n")
    (tmp_path / ".env").chmod(0o600)
    place.setenv("MKA1_USAGE_CONCURRENCY", "4")
    warnings = [one for one in look("settings") if one.state == "warning"]
    assert [one.found.partition(" ")[0] for one in warnings] == ["MKA1_API_KEY"]
    assert SECRET not in told(warnings)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o640, True)])
def test_a_file_of_keys_that_others_can_read_is_warned_of(
    mode: int, warned: bool, look: Look, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("MKA1_USAGE_CONCURRENCY=4\n")
    (tmp_path / ".env").chmod(mode)
    found = [one for one in look("settings") if one.subject == ".env"]
    assert [one.fix for one in found] == [f"chmod 600 {tmp_path}/.env"] * warned


def test_a_line_that_is_none_is_named_by_its_number(look: Look, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MKA1_USAGE_CONCURRENCY=4\nMKA1_API_KEY='open\n")
    (tmp_path / ".env").chmod(0o600)
    assert "line 2 is not NAME=value" in told(look("settings"))


def test_a_file_that_cannot_be_read_leaves_what_it_may_set_alone(
    look: Look, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"MKA1_API_KEY=\xff\xfe\n")
    found = look("settings", "home", "DNS", "versions")
    assert [one.state for one in found] == ["failed", "skipped", "skipped", "ok"]
    assert "not UTF-8" in found[0].found
