"""What a materialization shows of its day: rows, columns, totals, the window, a small chart."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import altair as alt
import dagster as dg
import duckdb

from pipeline.lake import engine
from pipeline.lake.schemas import COSTS, DATASETS, MEASURES, METERS, TOKENS, USAGE, Dataset
from pipeline.lake.store import Lake
from pipeline.timeline import iso
from pipeline.usage.rollup import DayPublished

HourOfDay = tuple[int, int | None, int | None, int | None]


def column_schema(dataset: Dataset) -> dg.TableSchema:
    """The contract's columns, as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, str(column.type), column.description)
            for column in dataset.columns
        ]
    )


def day_metadata(
    con: duckdb.DuckDBPyConnection, lake: Lake, published: DayPublished
) -> dict[str, dict[str, dg.MetadataValue]]:
    """Per dataset, the metadata of the day's materialization."""
    day = published.day
    kept = lake.path("usage_1h", day)
    by_hour = kept.is_file()  # of old days, hours may not be kept
    source = kept if by_hour else lake.path("usage_1d", day)
    engine.bind(con, {"usage_1h": (USAGE["1h"], [source])})
    hours: list[HourOfDay] = con.sql(engine.sql("hours_of_day")).fetchall()
    totals = [sum(hour[place] or 0 for hour in hours) for place in (1, 2, 3)]
    shared: dict[str, dg.MetadataValue] = {
        "window": dg.MetadataValue.text(
            f"{iso(published.window.start)} to {iso(published.window.end)}"
        ),
        **{name: dg.MetadataValue.int(total) for name, total in zip(MEASURES, totals, strict=True)},
    }
    if by_hour:
        shared["chart"] = _picture(day, {hour[0]: hour[3] or 0 for hour in hours}, "operations")
    return {
        name: {
            "dagster/row_count": dg.MetadataValue.int(rows),
            "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(DATASETS[name])),
            **shared,
            "changed": dg.MetadataValue.bool(name in published.changed),
            "file": dg.MetadataValue.path(lake.path(name, day)),
        }
        for name, rows in published.rows.items()
    }


def meter_table(con: duckdb.DuckDBPyConnection, path: Path | None) -> dg.MetadataValue:
    """What each endpoint counted on a day, by measure, as a table in Markdown."""
    rows = _rows(con, "meters_of_day", "counted", METERS["1d"], path)
    lines = [f"| {endpoint} | {name} | {total:,} |" for endpoint, name, total in rows]
    head = ["| endpoint | measure | total |", "| --- | --- | ---: |"]
    return dg.MetadataValue.md("\n".join([*head, *lines]))


def cost_table(con: duckdb.DuckDBPyConnection, path: Path | None) -> dg.MetadataValue:
    """What is billed of a day, by model, as a table in Markdown."""
    lines = [
        f"| {model or '-'} | {Decimal(nano or 0).scaleb(-9):,f} | {currency or '-'} |"
        for model, currency, nano in _rows(con, "billed_of_day", COSTS.name, COSTS, path)
    ]
    head = ["| model | billed | currency |", "| --- | ---: | --- |"]
    return dg.MetadataValue.md("\n".join([*head, *lines]))


def token_metadata(
    con: duckdb.DuckDBPyConnection, hours: Path | None, day: date
) -> dict[str, dg.MetadataValue]:
    """What models did on a day, as a table in Markdown, and its tokens by hour as a chart."""
    models: dict[str, Counter[str]] = {}
    by_hour: Counter[int] = Counter()
    names = ("responses", "failed", "tokens")
    for model, hour, *counts in _rows(con, "tokens_of_day", "tokens_1h", TOKENS["1h"], hours):
        models.setdefault(model or "-", Counter()).update(dict(zip(names, counts, strict=True)))
        by_hour[hour] += counts[-1]
    lines = [
        f"| {model} | {' | '.join(f'{of_model[name]:,}' for name in names)} |"
        for model, of_model in sorted(models.items())
    ]
    head = ["| model | responses | failed | tokens |", "| --- | ---: | ---: | ---: |"]
    return {
        "models": dg.MetadataValue.md("\n".join([*head, *lines])),
        "chart": _picture(day, by_hour, "tokens"),
    }


def _rows(
    con: duckdb.DuckDBPyConnection, query: str, source: str, dataset: Dataset, path: Path | None
) -> Sequence[tuple[Any, ...]]:
    """What a query says of a day's file; nothing where there is none."""
    engine.bind(con, {source: (dataset, [path] if path else [])})
    return con.sql(engine.sql(query)).fetchall()


def _picture(day: date, counted: Mapping[int, int], what: str) -> dg.MetadataValue:
    """A day's numbers by hour: an image in Markdown, with words for who can't see it."""
    image = io.StringIO()
    day_chart(day, counted, what).save(image, format="svg")
    encoded = base64.b64encode(image.getvalue().encode()).decode()
    most, hour = max(((number, hour) for hour, number in counted.items()), default=(0, 0))
    words = f"busiest at {hour:02}:00 UTC ({most:,})" if most else "none"
    title = f"{what.capitalize()} by hour on {day}"
    return dg.MetadataValue.md(f"![{title}: {words}](data:image/svg+xml;base64,{encoded})")


def day_chart(day: date, counted: Mapping[int, int], what: str) -> alt.Chart:
    """What was counted by UTC hour of one day, all 24 hours on the axis."""
    top = max(4, *counted.values()) if counted else 4  # a quiet day keeps whole-numbered ticks
    rows = [{"hour": f"{hour:02}", what: counted.get(hour, 0)} for hour in range(24)]
    title = f"{what.capitalize()} by hour, {day} (UTC)"
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows), title=title)
        .mark_bar(color="#4F43DD")
        .encode(
            x=alt.X("hour:O", title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y(
                f"{what}:Q",
                title=None,
                scale=alt.Scale(domain=[0, top], nice=True),
                axis=alt.Axis(format="~s", tickCount=4),
            ),
        )
        .properties(width=520, height=130, background="white")
    )
    return chart
