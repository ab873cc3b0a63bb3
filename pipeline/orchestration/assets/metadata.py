"""What a materialization shows of its day: rows, columns, totals, the window, a small chart."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import altair as alt
import dagster as dg
import duckdb
import pyarrow.parquet as pq

from pipeline.lake import engine
from pipeline.lake.schemas import DATASETS, MEASURES, USAGE, Dataset
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
    engine.bind(con, {"usage_1h": (USAGE["1h"], [lake.path("usage_1h", day)])})
    hours: list[HourOfDay] = con.sql(engine.sql("hours_of_day")).fetchall()
    totals = [sum(hour[place] or 0 for hour in hours) for place in (1, 2, 3)]
    shared: dict[str, dg.MetadataValue] = {
        "window": dg.MetadataValue.text(
            f"{iso(published.window.start)} to {iso(published.window.end)}"
        ),
        **{name: dg.MetadataValue.int(total) for name, total in zip(MEASURES, totals, strict=True)},
        "chart": _picture(day, {hour[0]: hour[3] or 0 for hour in hours}, "operations"),
    }
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


def meter_table(path: Path | None) -> dg.MetadataValue:
    """What each endpoint counted on a day, by measure, as a table in Markdown."""
    totals: Counter[tuple[str, str]] = Counter()
    if path is not None:
        for row in pq.read_table(path, columns=["endpoint", "measure", "value"]).to_pylist():
            totals[row["endpoint"], row["measure"]] += row["value"]
    lines = [f"| {endpoint} | {name} | {total:,} |" for (endpoint, name), total in totals.items()]
    head = ["| endpoint | measure | total |", "| --- | --- | ---: |"]
    return dg.MetadataValue.md("\n".join([*head, *lines]))


def cost_table(path: Path | None) -> dg.MetadataValue:
    """What is billed of a day, by model, as a table in Markdown."""
    totals: Counter[tuple[str, str]] = Counter()
    if path is not None:
        for row in pq.read_table(path, columns=["model", "currency", "cost_nano"]).to_pylist():
            totals[row["model"] or "-", row["currency"] or "-"] += row["cost_nano"]
    lines = [
        f"| {model} | {Decimal(nano).scaleb(-9):,f} | {currency} |"
        for (model, currency), nano in totals.most_common()
    ]
    head = ["| model | billed | currency |", "| --- | ---: | --- |"]
    return dg.MetadataValue.md("\n".join([*head, *lines]))


def token_metadata(hours: Path | None, day: date) -> dict[str, dg.MetadataValue]:
    """What models did on a day, as a table in Markdown, and its tokens by hour as a chart."""
    models: dict[str, Counter[str]] = {}
    by_hour: Counter[int] = Counter()
    columns = ["start_time", "model", "num_responses", "num_failed", "total_tokens"]
    for row in pq.read_table(hours, columns=columns).to_pylist() if hours else ():
        of_model = models.setdefault(row["model"] or "-", Counter())
        of_model.update({name: row[name] or 0 for name in columns[2:]})
        by_hour[row["start_time"].hour] += row["total_tokens"] or 0
    lines = [
        f"| {model} | {it['num_responses']:,} | {it['num_failed']:,} | {it['total_tokens']:,} |"
        for model, it in sorted(models.items())
    ]
    head = ["| model | responses | failed | tokens |", "| --- | ---: | ---: | ---: |"]
    return {
        "models": dg.MetadataValue.md("\n".join([*head, *lines])),
        "chart": _picture(day, by_hour, "tokens"),
    }


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
