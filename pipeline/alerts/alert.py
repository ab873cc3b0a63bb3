"""What an alert says: one line of what, how much and since when, and a query that leads further.

Belongs here: the finding, and how foreign text is shown and quoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.lake.engine import literal
from pipeline.timeline import iso

Alert = Literal["late", "spike", "zero"]
Severity = Literal["warning", "error"]

_LONGEST_ID: Final = 80
_LIVE_IN_QUOTES: Final = frozenset('$`\\"!')
"""What a shell does not leave alone between double quotes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that on-call wants to know. `what` is a sentence without its full stop.

    `subject` tells it from other findings of its alert, `since` (Unix seconds) from the same one at
    another time. `query` runs with `mka1-usage sql`.
    """

    alert: Alert
    severity: Severity
    subject: str
    since: int
    what: str
    query: str

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

    `unjudged` says why nothing could be found, where that is so: no finding is then no comfort.
    `broken`, that it could not be looked for.
    """

    findings: Sequence[Finding] = ()
    more: int = 0
    unjudged: str | None = None
    broken: str | None = None

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


def shown(identifier: str | None, kind: str) -> str:
    """A user or key as it stands in a sentence: on one line, not too long, whatever is in it."""
    if identifier is None:
        return f"calls without a {kind}"
    cut = identifier[:_LONGEST_ID] + ("…" if len(identifier) > _LONGEST_ID else "")
    return f"{kind} " + "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut
    )


def equals(column: str, value: str | None) -> str:
    """A SQL condition on a text, in printable characters alone: it survives any terminal."""
    if value is None:
        return f"{column} is null"
    parts: list[str] = []
    plain = ""
    for char in value:
        if char.isprintable():
            plain += char
            continue
        parts += [literal(plain)] if plain else []
        parts.append(f"chr({ord(char)})")
        plain = ""
    parts += [literal(plain)] if plain or not parts else []
    return f"{column} = {' || '.join(parts)}"


def moment(seconds: int) -> str:
    """A SQL timestamp of the type that times have in the catalog: UTC, without a zone."""
    return f"timestamp '{iso(seconds).removesuffix('Z')}'"


def lasting(seconds: int) -> str:
    """A length of time, to the minute: `3 h 20 min`, `2 days 4 h`."""
    minutes = seconds // 60
    days, hours, rest = minutes // 1_440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days:,} day{'s' if days > 1 else ''}" + (f" {hours} h" if hours else "")
    parts = [f"{hours} h" if hours else "", f"{rest} min" if rest or not hours else ""]
    return " ".join(part for part in parts if part)
