"""Time zones: every name that people know, and offsets that agree with the clock at every hour."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from pipeline.timeline import Window, day_window
from pipeline.zones import offsets, zone, zones

SINCE = day_window(date(2024, 1, 1)).start
UNTIL = day_window(date(2027, 1, 1)).start


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("asia/karachi", "did you mean Asia/Karachi?"),
        ("Asia/Karach", "did you mean Asia/Karachi?"),
        ("karachi", "did you mean Asia/Karachi?"),
        ("new york", "did you mean America/New_York?"),
        ("utc", "did you mean UTC?"),
        ("Mars/Olympus", "take an IANA name such as Asia/Karachi or UTC"),
        ("+05:00", "take an IANA name"),
        ("", "take an IANA name"),
        ("../../etc/passwd", "take an IANA name"),
        ("localtime", "take an IANA name"),
    ],
)
def test_a_name_that_is_no_zone_is_refused_with_one_that_is(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is no time zone") as refusal:
        zone(name)
    assert hint in str(refusal.value)


def test_offsets_are_what_the_clock_shows_every_day_in_every_zone() -> None:
    """Also that no clock is moved and moved back within the week after which one looks again."""
    for name in sorted(zones()):
        known = ZoneInfo(name)
        spans = iter(offsets(name, Window(SINCE, UNTIL)))
        span = next(spans)
        for moment in range(SINCE, UNTIL, 86_400):
            while span.end <= moment:
                span = next(spans)
            shown = datetime.fromtimestamp(moment, UTC).astimezone(known).utcoffset()
            assert shown is not None
            assert shown.total_seconds() == span.seconds, (name, moment)


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "Africa/Casablanca", "Australia/Lord_Howe", "Pacific/Apia"]
)
def test_offsets_follow_each_other_without_a_gap_and_change_to_the_second(name: str) -> None:
    window = Window(day_window(date(2010, 3, 5)).start, day_window(date(2013, 11, 7)).end)
    spans = offsets(name, window)
    assert spans[0].start == window.start
    assert spans[0].before is None
    assert spans[-1].end == window.end
    known = ZoneInfo(name)
    for one, other in pairwise(spans):
        assert one.end == other.start
        assert one.seconds == other.before != other.seconds
        for moment, seconds in ((other.start - 1, one.seconds), (other.start, other.seconds)):
            shown = datetime.fromtimestamp(moment, known).utcoffset()
            assert shown is not None
            assert shown.total_seconds() == seconds


def test_a_window_of_a_second_has_one_offset() -> None:
    assert len(offsets("Europe/Berlin", Window(SINCE, SINCE + 1))) == 1
