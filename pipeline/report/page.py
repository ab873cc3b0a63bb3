"""A report as one HTML file: no script, no network, charts inline.

Belongs here: filling the template. Each chart is there twice, wide and narrow; the stylesheet shows
the one that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.report.charts import Chart
from pipeline.report.drawing import COLOURS, NARROW, WIDE, Frame, finished, inline, png
from pipeline.report.figures import Figures
from pipeline.report.parts import Section
from pipeline.report.period import Period
from pipeline.report.sections import PageContent, page_content
from pipeline.report.source import EVERYTHING, Only
from pipeline.timeline import iso

TEMPLATE_FOLDER: Final = Path(__file__).parent
TEMPLATES: Final = Environment(
    loader=FileSystemLoader(TEMPLATE_FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


_SIGNS: Final = {
    **{"loose": "dashed", "gap": "grey", "line": "line", "ramp": "from light to full"},
    "tick": "upright line",
    **{"final": "full", "soft": "dashed", "half": "half", "unequal": "≠", "cross": "×"},
    "dash": "–",
}
"""What a sign of the key looks like, in words."""


Links: TypeAlias = Callable[[str, str], str | None]
"""The address of the report of a user, a key, a model or a team alone, by kind and id, if it has
one."""


def render(figures: Figures, pulled_at: float | None = None) -> str:
    """The whole page; it says when the lake was pulled (Unix seconds), where it is a copy."""
    return TEMPLATES.get_template("page.html").render(contents(figures, pulled_at))


def contents(
    figures: Figures, pulled_at: float | None = None, links: Links | None = None
) -> dict[str, Any]:
    """What the template is filled with; with `links` in its tables where it is served.

    `command` makes the same page as a file; None where no shell can be given what it is of.
    """
    report = page_content(figures)
    return {
        "links": links,
        "page_content": report,
        "sections": report.sections,
        "drawn": {one.name: _both(one, one.chart) for one in report.sections if one.chart},
        "colours": COLOURS,
        "zone": figures.period.zone.key,
        "command": command(figures.period, figures.only),
        "pulled_at": None if pulled_at is None else iso(int(pulled_at)),
    }


def pictures(figures: Figures) -> dict[str, bytes]:
    """The same charts as PNG, by file name, each with its title and finding."""
    return {f"{section.name}.png": png(svg) for section, svg in _alone(page_content(figures))}


def preview(figures: Figures) -> tuple[str, str]:
    """The first chart in words, which hold nothing but numbers and days, and as an SVG."""
    report = page_content(figures)
    first, svg = next(_alone(report))
    return f"{first.heading}, {report.title}: {first.finding}", svg


def _alone(report: PageContent) -> Iterator[tuple[Section, str]]:
    """Each chart as an SVG with its title, its finding and its key, and what is known of its days:
    it is sent around without the page."""
    of = [f"{report.of}."] if report.of else []
    standing = " ".join([*of, f"{report.about}.", *report.warnings])
    for section in report.sections:
        if section.chart:
            said = "; ".join(f"{_SIGNS[key.sign]}: {key.words}" for key in section.keys)
            words = " ".join(filter(None, [section.finding, said and f"({said})", section.note]))
            title = f"{section.heading}, {report.title}"
            yield section, finished(section.chart(WIDE), title, f"{words}\n{standing}")


def _both(section: Section, chart: Callable[[Frame], Chart]) -> str:
    """The chart for wide and for narrow screens."""
    words = f"{section.finding} The numbers are in the table below."
    return "\n".join(
        inline(
            finished(chart(frame)),
            f"{section.name}-{frame.side}",
            frame,
            section.heading,
            words,
        )
        for frame in (WIDE, NARROW)
    )


def command(period: Period, only: Only = EVERYTHING) -> str | None:
    """What makes the same report again, for a shell; None where an id holds NUL, which no argument
    can."""
    end = period.last + timedelta(days=1)
    of = {kind: id_ for kind, id_ in only._asdict().items() if id_ is not None}
    if "\0" in "".join(of.values()):
        return None
    whole = f"mka1-usage report --start {period.first} --end {end} --tz {quote(period.zone.key)}"
    return " ".join([whole, *(f"--{kind} {_word(id_)}" for kind, id_ in of.items())])


def _word(text: str) -> str:
    """A text as one word of a shell; where a part of it can't be seen, as bash, zsh and ksh have
    it."""
    if text.isprintable():
        return quote(text)
    seen = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{''.join(char if char.isprintable() else _octal(char) for char in seen)}'"


def _octal(char: str) -> str:
    """Bytes of three digits each, so that a digit may follow."""
    return "".join(f"\\{byte:03o}" for byte in char.encode())
