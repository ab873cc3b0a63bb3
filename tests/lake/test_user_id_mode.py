"""A lake holds ids of one kind: as they are, or pseudonyms of one key; no other gets in."""

from __future__ import annotations

import stat

import pytest

from pipeline.lake.store import Lake
from pipeline.lake.user_id_mode import UserIdModeError, check, claim
from tests.conversations.staged import usage_row
from tests.lake.served import plant

ONE, OTHER = "0123456789abcdef", "fedcba9876543210"


def hold_a_day(lake: Lake) -> None:
    plant(lake, "usage_1d", [usage_row()])


@pytest.mark.parametrize("fingerprint", [None, ONE])
def test_a_lake_takes_the_ids_that_it_was_begun_with(lake: Lake, fingerprint: str | None) -> None:
    check(lake, fingerprint)
    claim(lake, fingerprint)
    hold_a_day(lake)
    claim(lake, fingerprint)
    check(lake, fingerprint)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (
            None,
            ONE,
            rf"was written with user ids as they are, and now MKA1_USAGE_PSEUDONYM_KEY is a key of "
            rf"fingerprint {ONE}: unset MKA1_USAGE_PSEUDONYM_KEY, or set MKA1_USAGE_HOME",
        ),
        (
            ONE,
            None,
            rf"was written with a key of fingerprint {ONE}, and now MKA1_USAGE_PSEUDONYM_KEY is "
            r"not set: set the key of then again, or set MKA1_USAGE_HOME",
        ),
        (ONE, OTHER, rf"with a key of fingerprint {ONE}, .* is a key of fingerprint {OTHER}: set"),
    ],
)
def test_ids_of_another_kind_are_refused_with_one_line(
    lake: Lake, before: str | None, now: str | None, said: str
) -> None:
    claim(lake, before)
    for ask in (claim, check):
        with pytest.raises(UserIdModeError, match=said) as refused:
            ask(lake, now)
        assert str(lake.root) in str(refused.value)
        assert "\n" not in str(refused.value)
    claim(lake, before)


def test_a_lake_with_days_and_no_marker_lets_nothing_in(lake: Lake) -> None:
    hold_a_day(lake)
    for ask in (claim, check):
        for fingerprint in (None, ONE):
            with pytest.raises(UserIdModeError, match="does not say whose ids the lake holds"):
                ask(lake, fingerprint)


def test_reading_leaves_no_marker(lake: Lake) -> None:
    check(lake, ONE)
    assert not lake.root.exists()


def test_the_marker_is_its_owners_and_written_once(lake: Lake) -> None:
    claim(lake, ONE)
    marker = lake.root / ".identity.json"
    assert stat.S_IMODE(marker.stat().st_mode) == 0o600
    assert marker.read_text() == f'{{"pseudonyms": "{ONE}"}}'
    before = marker.stat().st_mtime_ns, marker.stat().st_ino
    claim(lake, ONE)
    assert (marker.stat().st_mtime_ns, marker.stat().st_ino) == before
    assert [path.name for path in lake.root.iterdir() if path.is_file()] == [marker.name]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'"x"', b"3"])
def test_a_marker_that_says_nothing_lets_nothing_in(lake: Lake, content: bytes) -> None:
    claim(lake, None)
    (lake.root / ".identity.json").write_bytes(content)
    for fingerprint in (None, ONE):
        with pytest.raises(UserIdModeError, match="does not say whose ids the lake holds"):
            claim(lake, fingerprint)
