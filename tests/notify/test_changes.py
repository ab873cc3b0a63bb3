"""What began, got worse and ended: each is told once, and unknown is not ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.alert import Alert, Evaluation, Finding, Severity
from pipeline.notify.changes import Open, changes, message_of

FIRST = date(2024, 1, 1)


def finding(
    subject: str = "1h user 'u'",
    *,
    alert: Alert = "spike",
    severity: Severity = "warning",
    since: int = 0,
    days: int = 0,
) -> Finding:
    """A finding of some alert; with `days`, about so many of them."""
    parts = tuple(str(FIRST + timedelta(days=day)) for day in range(days))
    kind = subject if days else ""
    subject = f"{subject} {parts}" if days else subject
    return Finding(
        alert, severity, subject, since, f"{subject} at {since}", "select 1", kind, parts
    )


def found(*findings: Finding, **others: Evaluation) -> Mapping[Alert, Evaluation]:
    """An evaluation of all alerts that found these."""
    names: tuple[Alert, ...] = ("late", "spike", "budget", "zero")
    return {
        name: others.get(name, Evaluation([one for one in findings if one.alert == name]))
        for name in names
    }


def told(*evaluations: Mapping[Alert, Evaluation]) -> list[list[str]]:
    """What is told at each of some evaluations, one after the other."""
    known: dict[str, Open] = {}
    lines: list[list[str]] = []
    for now, one in enumerate(evaluations):
        known, changed = changes(known, one, float(now))
        lines.append([f"{it.phase} {it.about.alert}" for it in changed])
    return lines


SPIKE = finding()
LATE = finding("behind", alert="late", severity="error")
BUDGET = finding("80 % of all", alert="budget")


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        ([found(SPIKE), found(SPIKE), found()], [["began spike"], [], ["ended spike"]]),
        # the same user, hour after hour
        ([found(SPIKE), found(replace(SPIKE, since=3_600))], [["began spike"], []]),
        (
            [found(SPIKE), found(), found(SPIKE)],
            [["began spike"], ["ended spike"], ["began spike"]],
        ),
        # how late it is changes each time, and is the same lateness
        ([found(LATE), found(replace(LATE, since=60))], [["began late"], []]),
        # a budget's next period is another thing
        (
            [found(BUDGET), found(replace(BUDGET, since=1))],
            [["began budget"], ["began budget", "ended budget"]],
        ),
        # a warning that becomes an error
        (
            [found(SPIKE), found(replace(SPIKE, severity="error")), found(SPIKE)],
            [["began spike"], ["worse spike"], []],
        ),
        # more days are worse, fewer are not, and those that come back are
        (
            [found(finding("missing", alert="late", days=n)) for n in (2, 3, 1, 2, 1)] + [found()],
            [["began late"], ["worse late"], [], ["worse late"], [], ["ended late"]],
        ),
    ],
)
def test_a_thing_is_told_when_it_begins_and_when_it_ends(
    evaluations: list[Mapping[Alert, Evaluation]], expected: list[list[str]]
) -> None:
    assert told(*evaluations) == expected


@pytest.mark.parametrize(
    "unknown",
    [
        Evaluation(unjudged="a baseline takes 7 days"),
        Evaluation(broken="can't be looked for: disk"),
        Evaluation([finding("another")], more=3),
    ],
)
def test_what_could_not_be_looked_for_has_not_ended(unknown: Evaluation) -> None:
    lines = told(found(SPIKE), found(spike=unknown), found(SPIKE), found())
    assert "ended spike" not in lines[1]
    assert "began spike" not in lines[2]
    assert "ended spike" in lines[3]


def test_a_budget_that_is_not_known_keeps_no_other_from_ending() -> None:
    unknown = Evaluation(unjudged="nothing is known of tokens", unknown=[(BUDGET.topic, 0)])
    other = finding("80 % of tokens", alert="budget")
    week_before = finding(BUDGET.topic, alert="budget", since=-1)
    lines = told(found(BUDGET, other, week_before), found(budget=unknown), found())
    assert lines[1:] == [["ended budget", "ended budget"], ["ended budget"]]


def test_a_lake_that_cannot_be_read_is_told_once_for_all_alerts() -> None:
    broken = Evaluation(broken="can't be looked for: disk")
    evaluation = found(late=broken, spike=broken, budget=broken, zero=broken)
    known, changed = changes({}, evaluation, 0)
    (one,) = changed
    assert one.about.what == "late, spike, budget, zero: can't be looked for: disk"
    assert one.about.command == "mka1-usage verify"
    _, after = changes(known, found(), 1)
    assert [it.phase for it in after] == ["ended"]


SOME = st.lists(
    st.sampled_from([SPIKE, LATE, BUDGET, finding("b"), finding("c", severity="error")]),
    unique_by=lambda it: (it.alert, it.subject),
)


@given(st.lists(SOME, max_size=8))
def test_beginnings_and_ends_take_turns_and_what_is_open_is_what_is_found(
    steps: list[list[Finding]],
) -> None:
    known: dict[str, Open] = {}
    for now, step in enumerate(steps):
        before = set(known)
        known, changed = changes(known, found(*step), now)
        assert len(known) == len(step)
        assert {it.about.id for it in changed if it.phase == "began"} == set(known) - before
        assert {it.about.id for it in changed if it.phase == "ended"} == before - set(known)


def test_a_message_says_what_since_when_and_the_command_errors_first() -> None:
    known, _ = changes({}, found(SPIKE), 1_704_067_200)
    _, changed = changes(known, found(LATE, finding("b", since=60)), 1_704_074_400)
    message = message_of(changed, 1_704_074_400)
    assert message.title == "1 error, 1 warning, 1 ended"
    assert [(part.heading, part.tone) for part in message.parts] == [
        ("Began: error, since 1970-01-01T00:00:00Z", "error"),
        ("Began: warning, since 1970-01-01T00:01:00Z", "warning"),
        ("Ended: warning, since 1970-01-01T00:00:00Z", "ended"),
    ]
    assert message.parts[0].command == "mka1-usage status"
    assert message.parts[1].lines == ("b at 60",)
    assert message.parts[1].command == 'mka1-usage sql "select 1"'
    assert message.parts[2].lines == (
        "It was: 1h user 'u' at 0",
        "It is not found any more at 2024-01-01T02:00:00Z, 2 h after it was reported.",
    )
    phases = [one["phase"] for one in message.data["changes"]]
    assert phases == ["began", "began", "ended"]


def test_of_very_many_changes_a_message_lists_some_and_counts_the_others() -> None:
    _, changed = changes({}, found(*(finding(f"{n}") for n in range(40))), 0)
    message = message_of(changed, 0)
    assert message.title == "40 warnings"
    assert len(message.parts) == 16
    assert message.parts[-1].heading == "and 25 more"
    assert len(message.data["changes"]) == 40
