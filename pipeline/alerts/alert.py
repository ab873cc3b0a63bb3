"""What an alert says: one line of what, how much and since when, and a query that leads further."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from pipeline.lake.engine import literal
from pipeline.messages import count
from pipeline.timeline import iso

Alert = Literal["late", "spike", "zero", "tokens", "cost", "failures", "budget"]
Severity = Literal["warning", "error"]

_LIVE_IN_QUOTES: Final = frozenset('$`\\"!')
"""What a shell does not leave alone between double quotes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that on-call wants to know. `what` is a sentence without its full stop.

    `subject` tells it from other findings of its alert, `since` (Unix seconds) from the same one at
    another time. `query` runs with `mka1-usage sql`. Where a subject names its `parts`,
    such as days, `kind` is the subject without them.
    """

    alert: Alert
    severity: Severity
    subject: str
    since: int
    what: str
    query: str
    kind: str = ""
    parts: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        """The subject, without how much of it there is."""
        return self.kind or self.subject

    @property
    def command(self) -> str:
        """What to type to look further."""
        # In double quotes where that will do, for SQL has single ones.
        live = _LIVE_IN_QUOTES.intersection(self.query)
        quoted = shlex.quote(self.query) if live else f'"{self.query}"'
        return f"mka1-usage sql {quoted}"

    @property
    def line(self) -> str:
        """All of it in one line."""
        return f"{self.what}; look further: {self.command}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one alert found, the worst first; `more` were found beside those.

    `unjudged` says why nothing could be judged, `broken` why the lake could not be read: without
    findings, all is then not well. Where only some could not be judged, `unknown` has topic and
    `since` of what could have been found of those.
    """

    findings: Sequence[Finding] = ()
    more: int = 0
    unjudged: str | None = None
    broken: str | None = None
    unknown: Sequence[tuple[str, int]] = ()

    @property
    def severity(self) -> Severity | None:
        """The worst of what was found; None where all is well."""
        found = {finding.severity for finding in self.findings}
        if "error" in found or self.broken is not None:
            return "error"
        return "warning" if found else None

    @property
    def lines(self) -> list[str]:
        """A line for each finding, and one for those that are left out."""
        shown = [finding.line for finding in self.findings]
        shown += [f"and {self.more:,} more"] if self.more else []
        return [self.broken, *shown] if self.broken else shown


def shown(identifier: str | None, kind: str, name: str | None = None) -> str:
    """A user or key as it stands in a sentence: on one line, not too long, whatever is in it.

    The id stands behind the name, if there is one: queries take the id.
    """
    if identifier is None:
        return f"calls without a {kind}"
    if name is not None:
        return f"{kind} {_cut(name)} ({_cut(identifier)})"
    return f"{kind} {_cut(identifier)}"


def _cut(text: str) -> str:
    cut = text[:80] + ("…" if len(text) > 80 else "")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut
    )


def equals(column: str, value: str | None) -> str:
    """A SQL condition on a text, in printable characters alone: it survives any terminal."""
    if value is None:
        return f"{column} is null"
    parts: list[str] = []
    for printable, chars in groupby(value, str.isprintable):
        text = "".join(chars)
        parts += [literal(text)] if printable else [f"chr({ord(char)})" for char in text]
    return f"{column} = {' || '.join(parts) or literal('')}"


def moment(seconds: int) -> str:
    """A SQL timestamp of the type that times have in the catalog: UTC, without a zone."""
    return f"timestamp '{iso(seconds).removesuffix('Z')}'"


def lasting(seconds: int) -> str:
    """A length of time, to the minute: `3 h 20 min`, `2 days 4 h`."""
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    parts = [count(days, "day")] if days else []
    parts += [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if not days and (minutes or not hours) else []
    return " ".join(parts)
