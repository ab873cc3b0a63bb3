"""A report as one HTML file: no script, no network, charts inline.

Belongs here: filling the template.

Each chart is there twice, wide and narrow; the stylesheet shows the one that fits.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.report.drawing import ALONE, COLOURS, NARROW, WIDE, finished, inline, png
from pipeline.report.figures import Figures
from pipeline.report.period import Period
from pipeline.report.sections import PageContent, Section, page_content

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(figures: Figures) -> str:
    """The whole page."""
    report = page_content(figures)
    return _TEMPLATES.get_template("page.html").render(
        page_content=report,
        sections=report.sections,
        drawn={
            section.name: _both(section) for section in report.sections if section.chart is not None
        },
        colours=COLOURS,
        zone=figures.period.zone.key,
        command=command(figures.period),
    )


def pictures(figures: Figures) -> dict[str, bytes]:
    """The same charts as PNG, by file name, each with its title and finding."""
    report = page_content(figures)
    return {
        f"{section.name}.png": png(_alone(report, section))
        for section in report.sections
        if section.chart is not None
    }


def preview(figures: Figures) -> tuple[str, str]:
    """The first chart in words, which hold nothing but numbers and days, and as an SVG."""
    report = page_content(figures)
    first = report.sections[0]
    return f"{first.heading}, {report.title}: {first.finding}", _alone(report, first)


def _alone(report: PageContent, section: Section) -> str:
    if section.chart is None:
        raise ValueError(f"{section.name} has no chart")
    words = f"{section.finding} {_key(section)}".strip()
    title = f"{section.heading}, {report.title}"
    return finished(section.chart(ALONE), ALONE, title, words)


def command(period: Period) -> str:
    """What makes the same report again."""
    end = period.last + timedelta(days=1)
    return f"mka1-usage report --start {period.first} --end {end} --tz {quote(period.zone.key)}"


_SIGNS: Final = {
    "loose": "dashed",
    "gap": "grey",
    "line": "line",
    "final": "full",
    "soft": "dashed",
    "half": "half",
    "unequal": "≠",
    "cross": "×",
    "ramp": "from light to full",
}
"""What a sign of the key looks like, in words."""


def _key(section: Section) -> str:
    said = [f"{_SIGNS[key.sign]}: {key.words}" for key in section.keys]
    return " ".join([f"({'; '.join(said)})" if said else "", section.note]).strip()


def _both(section: Section) -> str:
    """The chart for wide and for narrow screens."""
    if section.chart is None:
        return ""
    parts: list[str] = []
    for frame in (WIDE, NARROW):
        svg = finished(section.chart(frame), frame, section.heading, section.finding)
        name = f"{section.name}-{'narrow' if frame.narrow else 'wide'}"
        words = f"{section.finding} The numbers are in the table below."
        parts.append(inline(svg, name, frame, section.heading, words))
    return "\n".join(parts)
