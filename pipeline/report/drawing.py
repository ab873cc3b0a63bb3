"""How a chart becomes a picture: an SVG that follows the page's colours and widths, or a PNG.

Belongs here: colours, sizes, and what is done to the SVG that comes out of Vega. Charts are drawn
in the light colours. In the page each of them becomes the custom property of that name, which the
stylesheet sets for light, dark and paper.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import altair as alt

from pipeline.report.drawing_process import DRAWING

INK: Final = "#1B1F24"
MUTED: Final = "#57606A"
GRID: Final = "#E1E5EA"
GAP: Final = "#EDEFF2"
PAPER: Final = "#FEFFFF"

COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    "ink": (INK, "#E9ECF0"),
    "muted": (MUTED, "#A9B3BE"),
    "grid": (GRID, "#2E363F"),
    "gap": (GAP, "#222931"),
    "paper": (PAPER, "#12161B"),
    "operations": ("#4F43DD", "#A39CFF"),
    "items": ("#0B7A75", "#4FC7BF"),
    "conversations": ("#B4540A", "#F0A35E"),
    "users": ("#8A3B8F", "#D793DB"),
    "new": ("#2F6FB0", "#7FB8F0"),
    "input": ("#0E7490", "#5CC8DE"),
    "output": ("#B7791F", "#E8B54D"),
    "cost": ("#BE185D", "#F58CB7"),
    "known": ("#2E7D4F", "#62C08A"),
    "late": ("#3F6D8E", "#86B5D6"),
    "undated": ("#7A6A2B", "#CDBB6E"),
    "deleted": ("#8F5B3A", "#D6A07C"),
    "unexplained": ("#B3261E", "#FF8A80"),
    "underivable": ("#66707B", "#97A1AC"),
}
"""By name: on paper and in light, and in the dark."""

SCALE: Final = 2
"""Pixels of a PNG to one of its chart."""
_FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
_TAG: Final = re.compile(r"<[^>]*>")
"""A tag: Vega escapes `<` and `>` in texts, and no attribute of a chart holds foreign text."""
_ROOT: Final = re.compile(r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)"[^>]*>')
_NOISE: Final = re.compile(r' (?:role|class|aria-[a-z]+|pointer-events|font-family)="[^"]*"')
_REFERENCE: Final = re.compile(r'( id="|url\(#)([^")]+)(["\)])')
_PAINT: Final = re.compile(r'(fill|stroke)="(#[0-9A-Fa-f]{6})"')


@dataclass(frozen=True, slots=True)
class Frame:
    """What a chart is drawn for: its width in pixels."""

    width: int

    @property
    def narrow(self) -> bool:
        return self.width < 600

    @property
    def side(self) -> str:
        """The stylesheet's class of charts of this width."""
        return "narrow" if self.narrow else "wide"


WIDE: Final = Frame(880)
NARROW: Final = Frame(336)


def finished(chart: alt.LayerChart | alt.VConcatChart, title: str = "", words: str = "") -> str:
    """The SVG of a chart as Vega draws it; with a title and lines of words where it is alone."""
    spec: dict[str, Any] = chart.to_dict()
    spec |= {"config": _config(), "padding": 2, "background": "transparent"}
    if title:
        spec |= {"padding": 20, "background": PAPER}
        spec["title"] = {
            "text": title,
            "subtitle": [part for line in words.splitlines() for part in textwrap.wrap(line, 155)],
            **{"anchor": "start", "offset": 16, "fontSize": 18, "color": INK},
            **{"subtitleColor": MUTED, "subtitleFontSize": 12, "subtitlePadding": 6},
        }
    return DRAWING.svg(spec, ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2]))


def png(svg: str) -> bytes:
    """The picture's bytes, at twice the chart's size."""
    return DRAWING.png(svg, SCALE)


def inline(svg: str, name: str, frame: Frame, title: str, words: str) -> str:
    """The SVG as a part of the page: one image with a title and a description in words.

    `name` is unlike that of any other in the page. Only tags are changed: what texts say, stays.
    """
    root = next(_ROOT.finditer(svg))
    width, height = root.groups()
    by_colour = {light.lower(): role for role, (light, _) in COLOURS.items()}
    numbers: dict[str, int] = {}  # Vega's own go on counting from one chart to the next

    def renamed(found: re.Match[str]) -> str:
        return f"{found[1]}{name}-{numbers.setdefault(found[2], len(numbers))}{found[3]}"

    def themed(tag: re.Match[str]) -> str:
        text = _PAINT.sub(
            lambda found: f'{found[1]}="var(--{by_colour[found[2].lower()]})"',
            _NOISE.sub("", tag[0]),
        )
        return _REFERENCE.sub(renamed, text)

    return (
        f'<svg class="{frame.side}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(words)}</desc>' + _TAG.sub(themed, svg[root.end() :])
    )


def _config() -> dict[str, Any]:
    text = {"labelColor": MUTED, "labelFontSize": 11, "titleColor": MUTED, "titleFontSize": 11}
    return {
        "aria": False,  # which would put ids into attributes; the page has words and tables
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            **{"gridColor": GRID, "domain": False, "ticks": False, "labelPadding": 6},
        },
        "legend": {**text, "titleFontWeight": "normal", "labelFont": _FONT, "titleFont": _FONT},
        "text": {"fontSize": 12, "fill": INK},
    }
