"""One function a chart: figures to Altair.

Belongs here: which marks stand for what. What is not loaded is a grey band or a cross, never a bar
of height 0; what may still change has a dashed outline. Ids are foreign text: they are data, never
part of an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple

import altair as alt

from pipeline.report.axis import hour_number
from pipeline.report.drawing import COLOURS, GAP, GRID, INK, MUTED, PAPER, Frame
from pipeline.report.figures import MEASURES, Bar, Figures, Ranking
from pipeline.report.formatting import IN_SHORT, MONTHS, NAMES, WEEKDAYS, names_of, number, share
from pipeline.report.source import NOTHING, Knowledge
from pipeline.report.spending import SpendingBar
from pipeline.report.tables import measure_name

Chart = alt.LayerChart | alt.VConcatChart
Rows = Sequence[dict[str, Any]]

CLASS_COLOURS: Final = {
    "match": "known",
    "late": "late",
    "undated": "undated",
    "deleted": "deleted",
    "unexplained": "unexplained",
    "not derivable": "underivable",
}
KNOWLEDGE_KEYS: Final[Mapping[Knowledge, str]] = {
    "final": "final",
    "provisional": "soft",
    "in part": "half",
    "disputed": "unequal",
    "dropped": "dash",
    "missing": "cross",
}
"""How the calendar draws a day, by the class of its key in the stylesheet."""
MOST_MONTHS: Final = 24
"""Rows of the calendar."""
_AXIS: Final = 44
"""Pixels that the labels of an upright axis take."""
_INSET: Final = 0.1
"""The part of a bar's place that stays empty on either side."""
_HIGH: Final = 15
"""Pixels that the number above a bar takes, with some room."""
_IN_SHORT: Final = (
    "datum.value >= 1e9 ? format(datum.value, '.3~s') : "
    "datum.value >= 1e6 ? format(datum.value / 1e6, ',~r') + 'M' : "
    "datum.value >= 1e4 ? format(datum.value / 1e3, ',~r') + 'k' : format(datum.value, ',')"
)
"""How an axis writes a number."""
LOOSE: Final[dict[str, Any]] = {"fillOpacity": 0.3, "strokeDash": [3, 2], "strokeWidth": 1.2}
"""How a bar or a day is drawn that is not final."""
LETTER: Final = 6.2
"""Pixels that a letter of a label takes, about."""
NAME_LETTER: Final = 7.2
"""Pixels that a letter of a name takes, also in a font with wide ones."""
PLACES: Final = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))


def over_time(figures: Figures, frame: Frame) -> alt.VConcatChart:
    """Each measure's bars over the same axis of days, weeks or months."""
    panels = [
        panel(
            figures,
            frame,
            f"{NAMES[measure]}  {number(figures.totals.counts.of(measure))}",
            [
                bar_row(
                    bar,
                    bar.counts.of(measure) if bar.counts else None,
                    before=bar.before.of(measure) if bar.before else None,
                )
                for bar in figures.bars
            ],
            {"": paint(measure)},
            dated=measure == MEASURES[-1],
        )
        for measure in MEASURES
    ]
    chart: alt.VConcatChart = alt.vconcat(*panels, spacing=14).resolve_scale(
        fill="independent", stroke="independent"
    )
    return chart


def active(figures: Figures, frame: Frame) -> alt.VConcatChart:
    """Active users over time, new ones on top."""
    colours = {"": paint("users")}
    if any(bar.new_users for bar in figures.bars):
        colours = {"seen before": paint("users"), "new": paint("new")}
    rows: list[dict[str, Any]] = []
    for bar in figures.bars:
        new = bar.new_users or 0
        known = None if bar.users is None else bar.users - new
        rows.append(bar_row(bar, known, kind=next(iter(colours))))
        if new and known is not None:
            rows.append(bar_row(bar, known + new, kind="new", base=known))
    title = f"Active users  {number(figures.totals.users)} in all"
    chart: alt.VConcatChart = alt.vconcat(panel(figures, frame, title, rows, colours, dated=True))
    return chart


def bar_row(
    bar: Bar | SpendingBar,
    value: float | None,
    *,
    kind: str = "",
    base: float = 0,
    before: float | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """What a panel draws of a bar: from `base` to `value`, where that is known."""
    start, end = _place(bar.first), _place(bar.end)
    inset = _INSET * (end - start)
    return {
        **{"start": start, "x": start + inset, "x2": end - inset, "end": end},
        **{"value": value, "base": base, "before": before, "kind": kind},
        **{"known": bar.known, "label": f"{value or 0:,}" if label is None else label},
    }


def _place(shown: datetime) -> float:
    """Days since 1970 on a clock that is never moved."""
    return hour_number(shown) / 24


def panel(
    figures: Figures,
    frame: Frame,
    title: str,
    bars: Rows,
    colours: Mapping[str, str],
    *,
    dated: bool,
    unknown: str = "not reported",
    least: float = 4,
) -> alt.LayerChart:
    """Bars over local days; `dated` writes the days below.

    `unknown` says why a bar that is loaded has no number; an axis goes up to `least` or further.
    """
    width, height = frame.width - _AXIS, 92 if frame.narrow else 118
    known = (bar[name] for bar in bars for name in ("value", "before"))
    top = max((value for value in known if value is not None), default=0)
    every = -(-len(figures.bars) // (4 if frame.narrow else 8))
    labelled = figures.bars[::every]
    places = [(_place(bar.first) + _place(bar.end)) / 2 for bar in labelled]
    dates = [_date(figures, bar) for bar in labelled]
    x = alt.X(
        "x:Q",
        title=None,
        scale=alt.Scale(domain=[bars[0]["start"], bars[-1]["end"]], nice=False, zero=False),
        axis=alt.Axis(
            values=places,
            labelExpr=f"{dates}[indexof({places}, datum.value)]",
            grid=False,
            labels=dated,
            labelFlush=False,
        ),
    )
    highest = max(least, top * 1.12)
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[0, highest], nice=False),
        axis=alt.Axis(tickCount=3, labelExpr=_IN_SHORT, minExtent=_AXIS, maxExtent=_AXIS),
    )
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=legend(offset=8) if len(colours) > 1 else None,
    )
    return layered(
        *_bands(bars, x, width, height, unknown),
        *_bars(bars, x, y, colour),
        *_peak(bars, y, _Scale(width / (bars[-1]["end"] - bars[0]["start"]), height / highest)),
        width=width,
        height=height,
        title=alt.Title(title, anchor="start", fontSize=13, color=INK, frame="bounds", offset=6),
    )


def legend(**more: Any) -> alt.Legend:
    """Squares with words below a chart."""
    return alt.Legend(
        title=None,
        orient="bottom",
        direction="horizontal",
        symbolType="square",
        symbolStrokeWidth=0,
        **more,
    )


class _Scale(NamedTuple):
    """Pixels of a day and of one more."""

    across: float
    up: float


def _bands(bars: Rows, x: alt.X, width: int, height: int, unknown: str) -> list[alt.Chart]:
    """Grey where there is no number, and why there is none."""
    scale = width / (bars[-1]["end"] - bars[0]["start"])
    gaps: list[dict[str, Any]] = []
    for (missing, known), group in groupby(
        bars, key=lambda bar: (bar["value"] is None, bar["known"])
    ):
        members = list(group)
        if missing:
            start, end = members[0]["start"], members[-1]["end"]
            words = IN_SHORT[known] if known in NOTHING else unknown
            fits = (end - start) * scale > len(words) * LETTER
            middle = (start + end) / 2
            gaps.append({"x": start, "x2": end, "middle": middle, "words": words, "fits": fits})
    if not gaps:
        return []
    band = marks(gaps).encode(x=x, x2="x2")
    return [
        band.mark_rect(fill=GAP).encode(y=alt.value(0), y2=alt.value(height)),
        band.mark_text(fill=MUTED, fontSize=11)
        .encode(x=alt.X("middle:Q"), y=alt.value(height / 2), text="words:N")
        .transform_filter("datum.fits"),
    ]


def _bars(bars: Rows, x: alt.X, y: alt.Y, colour: alt.Color) -> list[alt.Chart]:
    """Bars of what is final and of what is not, rules of the period before."""
    there = [bar for bar in bars if bar["value"] is not None]
    loose = [bar for bar in there if bar["known"] != "final"]
    before = [{**bar, "value": bar["before"]} for bar in bars if bar["before"] is not None]
    at = {"x": x, "x2": "x2", "y": y}
    solid = {**at, "y2": alt.Y2("base:Q"), "fill": colour}
    firm = [bar for bar in there if bar["known"] == "final"]
    layers = [marks(firm).mark_rect().encode(**solid)]
    if loose:
        layers.append(marks(loose).mark_rect(**LOOSE).encode(**solid, stroke=colour))
    if before:
        layers.append(marks(before).mark_rule(stroke=INK, strokeWidth=1.3).encode(**at))
    return layers


def _peak(bars: Rows, y: alt.Y, scale: _Scale) -> list[alt.Chart]:
    """The number of the highest bar above it, and above the lines that would go through it."""
    there = [bar for bar in bars if bar["value"] is not None]
    lines = [bar for bar in bars if bar["before"] is not None]
    if not there or not any(bar["value"] or bar["before"] for bar in there):
        return []
    peak = max(there, key=lambda bar: (bar["value"], -bar["start"]))
    reach = len(peak["label"]) * LETTER / 2 / scale.across
    middle = (peak["x"] + peak["x2"]) / 2
    first, last = bars[0]["start"] + reach, bars[-1]["end"] - reach
    if first < last:  # else it has no room wherever it stands
        middle = min(max(middle, first), last)
    level = peak["value"]
    for line in sorted(
        bar["before"] for bar in lines if _meet(bar, middle - reach, middle + reach)
    ):
        if -_HIGH < (line - level) * scale.up < _HIGH:
            level = max(level, line)
    text = marks([{"middle": middle, "value": level, "label": peak["label"]}])
    return [text.mark_text(dy=-7, fontSize=11, fill=INK).encode(x="middle:Q", y=y, text="label:N")]


def _meet(bar: Mapping[str, Any], start: float, end: float) -> bool:
    return bool(bar["x"] < end and start < bar["x2"])


def _date(figures: Figures, bar: Bar) -> str:
    """What the axis says below a bar."""
    month = MONTHS[bar.first.month - 1][:3]
    if figures.period.unit == "month":
        return f"{month} {bar.first.year}"
    if figures.period.unit == "hour":
        clock = f"{bar.first:%H:%M}"
        return clock if figures.period.length == 1 else f"{bar.first.day} {month} {clock}"
    return f"{bar.first.day} {month}"


def ranking(found: Ranking, kind: str, total: int | None, frame: Frame) -> alt.LayerChart:
    """Bars of operations, each below its name."""
    names = names_of([one.shown for one in found.top], kind, 34 if frame.narrow else 80)
    rows = [
        {
            "value": one.counts.operations or 0,
            "label": names[place],
            "words": f"{number(one.counts.operations)} ({share(one.counts.operations, total)})",
        }
        for place, one in enumerate(found.top)
    ]
    return ranked(rows, "operations", frame, least=1)


def ranked(rows: Rows, role: str, frame: Frame, *, least: float = 0.0) -> alt.LayerChart:
    """Bars, each below its label and words; the whole width is the largest value, or `least`."""
    placed = [{"place": place, **row} for place, row in enumerate(rows)]
    data, y, end = marks(placed), PLACES, alt.value(frame.width - 4)
    top = max((row["value"] for row in rows), default=0)
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, max(least, top)], nice=False))
    shape: dict[str, Any] = {"size": 8, "yOffset": 9, "cornerRadius": 2}
    return layered(
        data.mark_bar(**shape, fill=GAP).encode(y=y, x=alt.value(0), x2=end),
        data.mark_bar(**shape, fill=paint(role)).encode(y=y, x=x),
        data.mark_text(align="left", yOffset=-4).encode(y=y, x=alt.value(0), text="label:N"),
        data.mark_text(align="right", yOffset=-4, fill=MUTED).encode(y=y, x=end, text="words:N"),
        width=frame.width - 4,
        height=alt.Step(36),
    )


def week(figures: Figures, frame: Frame) -> alt.LayerChart:
    """A cell for each hour of the week, the fuller the more operations; a cross: not known."""
    rows = [
        {"weekday": cell.weekday, "hour": cell.hour, "average": cell.average}
        for cell in figures.week
        if cell.asked
    ]
    top = max((row["average"] or 0 for row in rows), default=0) or 1
    labels = {
        "weekday": f"{[name[:3] for name in WEEKDAYS]}[datum.value - 1]",
        "hour": "(datum.value < 10 ? '0' : '') + datum.value + ':00'",
    }
    across, down = ("weekday", "hour") if frame.narrow else ("hour", "weekday")

    def axis(name: str, orient: Literal["top", "left"]) -> dict[str, Any]:
        values: dict[str, Any] = {"values": list(range(0, 24, 3))} if name == "hour" else {}
        return {
            "shorthand": f"{name}:O",
            "title": None,
            "scale": alt.Scale(paddingInner=0.06),
            "axis": alt.Axis(labelExpr=labels[name], labelAngle=0, orient=orient, **values),
        }

    opacity = alt.FillOpacity(
        "average:Q", scale=alt.Scale(domain=[0, top], range=[0.05, 1]), legend=None
    )
    cells = marks(rows).encode(x=alt.X(**axis(across, "top")), y=alt.Y(**axis(down, "left")))
    return layered(
        cells.mark_rect(fill=paint("operations"), stroke=GRID, strokeWidth=0.5)
        .encode(fillOpacity=opacity)
        .transform_filter("isValid(datum.average)"),
        cells.mark_text(fill=MUTED, text="×").transform_filter("!isValid(datum.average)"),
        width=frame.width - _AXIS - 4,
        height=24 * 15 if frame.narrow else alt.Step(26),
    )


def coverage(figures: Figures, frame: Frame) -> alt.LayerChart:
    """A row for each month, a place for each of its days."""
    months = sorted({(day.year, day.month) for day in figures.days})[-MOST_MONTHS:]
    step = 17 if frame.narrow else 25
    rows = [
        {"month": months.index((day.year, day.month)), "day": day.day, "known": known}
        for day, known in sorted(figures.days.items())
        if (day.year, day.month) in months
    ]
    labels = [f"{MONTHS[month - 1][:3]} {year}" for year, month in months]
    x = alt.X(
        "day:O",
        title=None,
        scale=alt.Scale(domain=list(range(1, 32)), paddingInner=0.18),
        axis=alt.Axis(values=[1, 6, 11, 16, 21, 26, 31], labelAngle=0, orient="top"),
    )
    y = alt.Y(
        "month:O",
        title=None,
        scale=alt.Scale(domain=list(range(len(months))), paddingInner=0.25),
        axis=alt.Axis(labelExpr=f"{labels}[datum.value]", minExtent=62),  # in wide fonts, too
    )
    colour, size = paint("known"), step - 6
    cells = marks(rows).encode(x=x, y=y)
    drawn: dict[Knowledge, alt.Chart] = {
        "final": cells.mark_rect(fill=colour),
        "provisional": cells.mark_rect(fill=colour, stroke=colour, **LOOSE),
        "in part": cells.mark_text(text="◐", fill=colour, fontSize=size),
        "disputed": cells.mark_text(text="≠", fill=colour, fontSize=size),
        "dropped": cells.mark_text(text="–", fill=MUTED, fontSize=12),
        "missing": cells.mark_text(text="×", fill=MUTED, fontSize=12),
    }
    return layered(
        *(mark.transform_filter(f"datum.known == '{known}'") for known, mark in drawn.items()),
        width=frame.width - 68,
        height=alt.Step(step),
    )


def reconciliation(figures: Figures, frame: Frame) -> alt.LayerChart:
    """A bar for each measure, divided by class."""
    measures = groupby(figures.reconciliation, key=lambda row: row["measure"])
    names: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for place, (measure, group) in enumerate(measures):
        names.append({"place": place, "label": measure_name(measure)})
        members = sorted(group, key=lambda row: list(CLASS_COLOURS).index(row["class"]))
        whole, at = sum(row["comparisons"] for row in members), 0
        for row in members:
            part = row["comparisons"]
            words = f"{row['class']} {share(part, whole)}"
            fits = part / whole * frame.width > (len(words) + 2) * LETTER
            rows.append(
                {
                    **{"place": place, "class": row["class"], "words": words, "fits": fits},
                    **{"x": at / whole, "x2": (at + part) / whole},
                    "middle": (at + part / 2) / whole,
                }
            )
            at += part
    present = {
        name: paint(role)
        for name, role in CLASS_COLOURS.items()
        if name in {row["class"] for row in rows}
    }
    fill = alt.Fill(
        "class:N",
        scale=alt.Scale(domain=list(present), range=list(present.values())),
        legend=legend(columns=2 if frame.narrow else len(present)),
    )
    scale = alt.Scale(domain=[0, 1], nice=False)
    parts = marks(rows).encode(y=PLACES)
    return layered(
        parts.mark_bar(size=20, yOffset=9, stroke=PAPER, strokeWidth=1).encode(
            x=alt.X("x:Q", axis=None, scale=scale), x2="x2", fill=fill
        ),
        parts.mark_text(yOffset=9, fontSize=11, fill=PAPER)
        .encode(x=alt.X("middle:Q", scale=scale), text="words:N")
        .transform_filter("datum.fits"),
        marks(names)
        .mark_text(align="left", yOffset=-10)
        .encode(y=PLACES, x=alt.value(0), text="label:N"),
        width=frame.width - 4,
        height=alt.Step(46),
    )


def layered(*layers: alt.Chart, **properties: Any) -> alt.LayerChart:
    """Marks over one another."""
    return alt.LayerChart(layer=list(layers), **properties)


def marks(rows: Rows) -> alt.Chart:
    """What marks are drawn of, a mark a row."""
    return alt.Chart(alt.InlineData(values=list(rows)))


def paint(role: str) -> str:
    """The colour of a role, as charts are drawn: in the light."""
    return COLOURS[role][0]
