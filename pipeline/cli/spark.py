"""rollup, and `sql --engine spark`: what works on the shared lake, by DuckDB or by Spark."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer
from rich.console import Console

from pipeline.cli.exit_codes import FAILED, MISUSED, exit_codes, fail, interruptible
from pipeline.cli.options import NO_TERMINAL, OptionalTime, days_of, not_empty, one_of
from pipeline.cli.pricing import price_list
from pipeline.cli.sharing import failing, opened
from pipeline.messages import count
from pipeline.settings import Settings, load_settings
from pipeline.terminal import say
from pipeline.timeline import in_words

Engine = Literal["duckdb", "spark"]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine", help="What counts: this machine, or Spark.", **one_of("duckdb", "spark")
    ),
]
Remote = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The Spark Connect server, such as sc://host:15002; MKA1_USAGE_SPARK_REMOTE says it "
        "too.",
    ),
]
Format = Literal["table", "csv", "json", "parquet"]


def rollup(
    start: OptionalTime = None,
    end: OptionalTime = None,
    engine: EngineOption = "duckdb",
    remote: Remote = None,
) -> None:
    """Make usage_1h and usage_1d of the shared lake anew, from its minutes, in one commit.

    The UTC days of [start, end) that are published; without --start and --end, all of them. A time
    inside a day means the whole day. What stands already is not committed again.
    """
    not_empty(start, end)
    first, last = days_of(start, end)
    if engine == "duckdb" and remote is not None:
        raise typer.BadParameter("--remote is for --engine spark")
    with exit_codes():
        settings = load_settings()
        server = _remote(settings, remote) if engine == "spark" else None
        with _failures():
            shared = opened(settings)
            from pipeline.lake.store import Lake
            from pipeline.spark.rollup import Compute, on_duckdb, roll_up

            compute: Compute = on_duckdb
            if server is not None:
                from pipeline.spark.job import on_spark

                compute = on_spark(server)
            lake = Lake(settings.lake, memory=settings.memory)
            with interruptible("nothing was committed"):
                done = roll_up(shared, compute, first, last, lake)
        rows = f"{done.rows['usage_1h']:,} by hour, {done.rows['usage_1d']:,} by day"
        say(
            f"done: {count(len(done.days), 'day')} rolled up ({rows}); "
            + (f"committed: {in_words(done.changed)}" if done.changed else "all stood already")
        )


def ask_spark(query: str, form: Format, remote: str | None) -> None:
    """Answer `sql --engine spark`."""
    with exit_codes():
        settings = load_settings()
        server = _remote(settings, remote)
        with _failures():
            from pipeline.query import ad_hoc
            from pipeline.spark.question import QuestionError, ask, understood
            from pipeline.spark.tables import of_one_moment

            try:
                question = understood(query)
            except QuestionError as error:
                fail(str(error), MISUSED)
            shared = opened(settings)
            files = of_one_moment(shared)
            rows = ask(server, question, files, lambda: price_list(settings).table)
            if form == "table":
                width = Console().width if sys.stdout.isatty() else NO_TERMINAL
                ad_hoc.show_rows(rows, width)
            else:
                ad_hoc.export_rows(rows, form, sys.stdout.buffer)


def _remote(settings: Settings, remote: str | None) -> str:
    if remote is not None:
        return remote
    if settings.spark_remote is None:
        fail(
            "--engine spark needs a Spark Connect server: give --remote sc://host:15002, or set "
            "MKA1_USAGE_SPARK_REMOTE",
            MISUSED,
        )
    return settings.spark_remote.get_secret_value()


@contextmanager
def _failures() -> Iterator[None]:
    """End with one line where the shared lake or Spark fails."""
    from pipeline.spark.connect import SparkError
    from pipeline.spark.rollup import RollupError

    try:
        with failing():
            yield
    except ModuleNotFoundError as error:
        fail(f"Spark needs {error.name}: pip install 'mka1-usage[shared,spark]'", FAILED)
    except SparkError as error:
        fail(str(error), MISUSED if error.of_question else FAILED)
    except RollupError as error:
        fail(str(error), FAILED)
