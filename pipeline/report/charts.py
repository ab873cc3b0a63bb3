"""One function a chart: figures to Altair.

Belongs here: which marks stand for what.

What is not loaded is a grey band or a cross, never a bar of height 0; what may still change has a
dashed outline. Ids are foreign text: they are data, never part of an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import Any, Final

import altair as alt

from pipeline.report.drawing import COLOURS, GAP, GRID, INK, MUTED, PAPER, Frame
from pipeline.report.figures import MEASURES, Bar, Figures, Knowledge, Ranking
from pipeline.report.formatting import MONTHS, NAMES, WEEKDAYS, names_of, number, share
from pipeline.report.tables import measure_name

Chart = alt.LayerChart | alt.VConcatChart
Rows = Sequence[Mapping[str, Any]]

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
    "missing": "cross",
}
"""How the calendar draws a day, by the class of its key in the stylesheet."""
MOST_MONTHS: Final = 24
"""Rows of the calendar."""
_EPOCH: Final = date(1970, 1, 1).toordinal()
_AXIS: Final = 44
"""Pixels that the labels of an upright axis take."""
_INSET: Final = 0.1
"""The part of a bar's place that stays empty on either side."""
_IN_SHORT: Final = (
    "datum.value >= 1e9 ? format(datum.value, '.3~s') : "
    "datum.value >= 1e6 ? format(datum.value / 1e6, ',~r') + 'M' : "
    "datum.value >= 1e4 ? format(datum.value / 1e3, ',~r') + 'k' : format(datum.value, ',')"
)
"""How an axis writes a number."""
_DASH: Final = [3, 2]
_FAINT: Final = 0.3
_LABELS: Final = 8
_LABELS_NARROW: Final = 4
_LETTER: Final = 6.2
"""Pixels that a letter of a label takes, about."""


def over_time(figures: Figures, frame: Frame) -> alt.VConcatChart:
    """Each measure's bars over the same axis of days, weeks or months."""
    panels = [
        _panel(
            figures,
            frame,
            f"{NAMES[measure]}  {number(figures.totals.counts.of(measure))}",
            [_bar(bar, bar.counts.of(measure) if bar.counts else None) for bar in figures.bars],
            {"": _colour(measure)},
            befores=[
                _bar(bar, bar.before.of(measure) if bar.before else None) for bar in figures.bars
            ],
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
    anybody = any(bar.new_users for bar in figures.bars)
    rows: list[dict[str, Any]] = []
    for bar in figures.bars:
        new = bar.new_users or 0
        known = None if bar.users is None else bar.users - new
        rows.append(_bar(bar, known, kind="seen before" if anybody else ""))
        if new and known is not None:
            rows.append(_bar(bar, known + new, kind="new", base=known))
    colours = {"": _colour("users")}
    if anybody:
        colours = {"seen before": _colour("users"), "new": _colour("new")}
    title = f"Active users  {number(figures.totals.users)} in all"
    chart: alt.VConcatChart = alt.vconcat(_panel(figures, frame, title, rows, colours, dated=True))
    return chart


def _bar(bar: Bar, value: int | None, kind: str = "", base: int = 0) -> dict[str, Any]:
    start, end = _place(bar.first), _place(bar.end)
    inset = _INSET * (end - start)
    return {
        "start": start,
        "x": start + inset,
        "x2": end - inset,
        "end": end,
        "value": value,
        "base": base,
        "kind": kind,
        "known": bar.known,
        "label": number(value),
    }


def _place(shown: datetime) -> float:
    """Days since 1970 on a clock that is never moved."""
    return shown.toordinal() - _EPOCH + shown.hour / 24


def _panel(
    figures: Figures,
    frame: Frame,
    title: str,
    bars: Rows,
    colours: Mapping[str, str],
    *,
    befores: Rows = (),
    dated: bool,
) -> alt.LayerChart:
    """Bars over local days; `dated` writes the days below."""
    width, height = frame.width - _AXIS, 92 if frame.narrow else 118
    there = [bar for bar in bars if bar["value"] is not None]
    before = [bar for bar in befores if bar["value"] is not None]
    top = max((bar["value"] for bar in (*there, *before)), default=0)
    days = [bars[0]["start"], bars[-1]["end"]]
    places, dates = _dates(figures, bars, frame)
    x = alt.X(
        "x:Q",
        title=None,
        scale=alt.Scale(domain=days, nice=False, zero=False),
        axis=alt.Axis(
            values=places,
            labelExpr=f"{dates}[indexof({places}, datum.value)]",
            grid=False,
            labels=dated,
            labelFlush=False,
        ),
    )
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[0, max(4, top * 1.12)], nice=False),
        axis=alt.Axis(tickCount=3, labelExpr=_IN_SHORT, minExtent=_AXIS, maxExtent=_AXIS),
    )
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=_legend(offset=8) if len(colours) > 1 else None,
    )
    gaps = _gaps([bar for bar in bars if not bar["base"]], days, width)
    return _layered(
        *_bands(gaps, x, height),
        *_bars(there, before, x, y, colour),
        width=width,
        height=height,
        title=alt.Title(title, anchor="start", fontSize=13, color=INK, frame="bounds", offset=6),
    )


def _legend(**more: Any) -> alt.Legend:
    return alt.Legend(
        title=None,
        orient="bottom",
        direction="horizontal",
        symbolType="square",
        symbolStrokeWidth=0,
        **more,
    )


def _bands(gaps: Rows, x: alt.X, height: int) -> list[alt.Chart]:
    """Grey where there is no number, and why there is none."""
    if not gaps:
        return []
    band = alt.Chart(_data(gaps)).encode(x=x, x2="x2")
    return [
        band.mark_rect(fill=GAP).encode(y=alt.value(0), y2=alt.value(height)),
        band.mark_text(fill=MUTED, fontSize=11)
        .encode(x=alt.X("middle:Q"), y=alt.value(height / 2), text="words:N")
        .transform_filter("datum.fits"),
    ]


def _bars(there: Rows, before: Rows, x: alt.X, y: alt.Y, colour: alt.Color) -> list[alt.Chart]:
    """Bars of what is final and of what is not, rules of the period before, the peak's number."""
    firm = [bar for bar in there if bar["known"] == "final"]
    loose = [bar for bar in there if bar["known"] != "final"]
    base = alt.Y2("base:Q")
    layers = [alt.Chart(_data(firm)).mark_rect().encode(x=x, x2="x2", y=y, y2=base, fill=colour)]
    if loose:
        layers.append(
            alt.Chart(_data(loose))
            .mark_rect(fillOpacity=_FAINT, strokeDash=_DASH, strokeWidth=1.2)
            .encode(x=x, x2="x2", y=y, y2=base, fill=colour, stroke=colour)
        )
    if before:
        layers.append(
            alt.Chart(_data(before))
            .mark_rule(stroke=INK, strokeWidth=1.3)
            .encode(x=x, x2="x2", y=y)
        )
    if any(bar["value"] for bar in (*there, *before)) and there:
        peak = max(there, key=lambda bar: (bar["value"], -bar["start"]))
        middle = {**peak, "middle": (peak["x"] + peak["x2"]) / 2}
        layers.append(
            alt.Chart(_data([middle]))
            .mark_text(dy=-7, fontSize=11, fill=INK)
            .encode(x="middle:Q", y=y, text="label:N")
        )
    return layers


def _dates(figures: Figures, bars: Rows, frame: Frame) -> tuple[list[float], list[str]]:
    """Where the axis is labelled, below the middle of some bars, and with what."""
    middles = {bar["start"]: (bar["start"] + bar["end"]) / 2 for bar in bars}
    every = -(-len(middles) // (_LABELS_NARROW if frame.narrow else _LABELS))
    shown = figures.bars[::every]
    return [middles[_place(bar.first)] for bar in shown], [_date(figures, bar) for bar in shown]


def _date(figures: Figures, bar: Bar) -> str:
    month = MONTHS[bar.first.month - 1][:3]
    if figures.period.unit == "month":
        return f"{month} {bar.first.year}"
    if figures.period.unit == "hour":
        clock = f"{bar.first:%H:%M}"
        return clock if figures.period.length == 1 else f"{bar.first.day} {month} {clock}"
    return f"{bar.first.day} {month}"


def _gaps(bars: Rows, days: Sequence[float], width: int) -> list[dict[str, Any]]:
    """Stretches without a number, and why there is none."""
    gaps: list[dict[str, Any]] = []
    for missing, group in groupby(bars, key=lambda bar: (bar["value"] is None, bar["known"])):
        members = list(group)
        if missing[0]:
            start, end = members[0]["start"], members[-1]["end"]
            words = "not loaded" if missing[1] == "missing" else "not reported"
            fits = (end - start) / (days[1] - days[0]) * width > len(words) * _LETTER
            middle = (start + end) / 2
            gaps.append({"x": start, "x2": end, "middle": middle, "words": words, "fits": fits})
    return gaps


def ranking(found: Ranking, kind: str, total: int | None, frame: Frame) -> alt.LayerChart:
    """Bars of operations, each below its name."""
    most = 34 if frame.narrow else 80
    names = names_of([one.id for one in found.top], kind, most)
    rows = [
        {
            "place": place,
            "value": one.counts.operations or 0,
            "label": names[place],
            "words": f"{number(one.counts.operations)} ({share(one.counts.operations, total)})",
        }
        for place, one in enumerate(found.top)
    ]
    return _ledger(rows, frame, _colour("operations"))


def _ledger(rows: Rows, frame: Frame, colour: str) -> alt.LayerChart:
    data = alt.Chart(_data(rows))
    y = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    top = max((row["value"] for row in rows), default=0)
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, max(1, top)], nice=False))
    track = data.mark_bar(size=8, yOffset=9, fill=GAP, cornerRadius=2)
    return _layered(
        track.encode(y=y, x=alt.value(0), x2=alt.value(frame.width - 4)),
        data.mark_bar(size=8, yOffset=9, fill=colour, cornerRadius=2).encode(y=y, x=x),
        data.mark_text(align="left", yOffset=-4).encode(y=y, x=alt.value(0), text="label:N"),
        data.mark_text(align="right", yOffset=-4, fill=MUTED).encode(
            y=y, x=alt.value(frame.width - 4), text="words:N"
        ),
        width=frame.width - 4,
        height=alt.Step(36),
    )


def week(figures: Figures, frame: Frame) -> alt.LayerChart:
    """A cell for each hour of the week, the fuller the more operations; a dot: not loaded."""
    rows = [
        {"weekday": cell.weekday, "hour": cell.hour, "average": cell.average}
        for cell in figures.week
        if cell.asked
    ]
    top = max((row["average"] or 0 for row in rows), default=0) or 1
    names = [name[:3] for name in WEEKDAYS]
    weekday: dict[str, Any] = {
        "shorthand": "weekday:O",
        "title": None,
        "scale": alt.Scale(paddingInner=0.06),
        "axis": alt.Axis(labelExpr=f"{names}[datum.value - 1]", labelAngle=0, orient="left"),
    }
    hour: dict[str, Any] = {
        "shorthand": "hour:O",
        "title": None,
        "scale": alt.Scale(paddingInner=0.06),
        "axis": alt.Axis(
            values=list(range(0, 24, 3)),
            labelExpr="(datum.value < 10 ? '0' : '') + datum.value + ':00'",
            labelAngle=0,
            orient="top",
        ),
    }
    if frame.narrow:
        weekday["axis"].orient, hour["axis"].orient = "top", "left"
        x, y = alt.X(**weekday), alt.Y(**hour)
    else:
        x, y = alt.X(**hour), alt.Y(**weekday)
    opacity = alt.FillOpacity(
        "average:Q", scale=alt.Scale(domain=[0, top], range=[0.05, 1]), legend=None
    )
    cells = alt.Chart(_data(rows)).encode(x=x, y=y)
    return _layered(
        cells.mark_rect(fill=_colour("operations"), stroke=GRID, strokeWidth=0.5)
        .encode(fillOpacity=opacity)
        .transform_filter("isValid(datum.average)"),
        cells.mark_text(fill=MUTED, text="×").transform_filter("!isValid(datum.average)"),
        width=frame.width - _AXIS - 4,
        height=24 * 15 if frame.narrow else alt.Step(26),
    )


def coverage(figures: Figures, frame: Frame) -> alt.LayerChart:
    """A row for each month, a place for each of its days."""
    days = sorted(figures.days.items())
    months = sorted({(day.year, day.month) for day, _ in days})[-MOST_MONTHS:]
    step = 17 if frame.narrow else 25
    rows = [
        {
            "month": months.index((day.year, day.month)),
            "day": day.day,
            "known": known,
        }
        for day, known in days
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
        axis=alt.Axis(labelExpr=f"{labels}[datum.value]", minExtent=54),
    )
    colour = _colour("known")
    cells = alt.Chart(_data(rows)).encode(x=x, y=y)
    return _layered(
        cells.mark_rect(fill=colour).transform_filter("datum.known == 'final'"),
        cells.mark_rect(
            fill=colour, fillOpacity=_FAINT, stroke=colour, strokeDash=_DASH, strokeWidth=1.2
        ).transform_filter("datum.known == 'provisional'"),
        cells.mark_text(text="◐", fill=colour, fontSize=step - 6).transform_filter(
            "datum.known == 'in part'"
        ),
        cells.mark_text(text="≠", fill=colour, fontSize=step - 6).transform_filter(
            "datum.known == 'disputed'"
        ),
        cells.mark_text(text="×", fill=MUTED, fontSize=12).transform_filter(
            "datum.known == 'missing'"
        ),
        width=frame.width - 60,
        height=alt.Step(step),
    )


def reconciliation(figures: Figures, frame: Frame) -> alt.LayerChart:
    """A bar for each measure, divided by class."""
    rows, places = _parts(figures, frame)
    names = [{"place": place, "label": measure_name(measure)} for measure, place in places.items()]
    present = [name for name in CLASS_COLOURS if name in {row["class"] for row in rows}]
    y = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    scale = alt.Scale(domain=[0, 1], nice=False)
    parts = alt.Chart(_data(rows))
    return _layered(
        parts.mark_bar(size=20, yOffset=9, stroke=PAPER, strokeWidth=1).encode(
            y=y,
            x=alt.X("x:Q", axis=None, scale=scale),
            x2="x2",
            fill=alt.Fill(
                "class:N",
                scale=alt.Scale(
                    domain=present, range=[_colour(CLASS_COLOURS[name]) for name in present]
                ),
                legend=_legend(columns=2 if frame.narrow else len(present)),
            ),
        ),
        parts.mark_text(yOffset=9, fontSize=11, fill=PAPER)
        .encode(y=y, x=alt.X("middle:Q", scale=scale), text="words:N")
        .transform_filter("datum.fits"),
        alt.Chart(_data(names))
        .mark_text(align="left", yOffset=-10)
        .encode(y=y, x=alt.value(0), text="label:N"),
        width=frame.width - 4,
        height=alt.Step(46),
    )


def _parts(figures: Figures, frame: Frame) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Each class of each measure as a part of its bar, and the place of each measure."""
    rows: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for measure, group in groupby(figures.reconciliation, key=lambda row: row["measure"]):
        members = list(group)
        places[measure] = len(places)
        whole, at = sum(row["comparisons"] for row in members), 0
        ordered = sorted(members, key=lambda row: list(CLASS_COLOURS).index(row["class"]))
        for row in ordered:
            part = row["comparisons"]
            words = f"{row['class']} {share(part, whole)}"
            rows.append(
                {
                    "place": places[measure],
                    "class": row["class"],
                    "x": at / whole,
                    "x2": (at + part) / whole,
                    "middle": (at + part / 2) / whole,
                    "words": words,
                    "fits": part / whole * frame.width > (len(words) + 2) * _LETTER,
                }
            )
            at += part
    return rows, places


def _layered(*layers: alt.Chart, **properties: Any) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers), **properties)


def _colour(role: str) -> str:
    return COLOURS[role][0]


def _data(rows: Rows) -> alt.InlineData:
    return alt.InlineData(values=[dict(row) for row in rows])
