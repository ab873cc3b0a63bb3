"""What Spark does of a roll-up: minutes of any number of days to hours and days, as one job.

Belongs here: the queries of `sql/` put together, and where their rows are written. The rows of a
width and day are one file or several. They are asked to be sorted; whoever reads them checks it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pipeline.lake import engine
from pipeline.lake.schemas import USAGE
from pipeline.spark.connect import SparkError, complaints, connected, shown
from pipeline.spark.dialect import to_spark
from pipeline.spark.rollup import WIDTHS, Compute, Files, Work, as_contract
from pipeline.spark.tables import as_written, read
from pipeline.timeline import SECONDS, Width

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

    from pipeline.shared_lake.warehouse import Results

_SORTED_BY: Final = ("width", "day", "start_time", "user_id", "api_key_id")


def on_spark(remote: str) -> Compute:
    """Count on a Spark Connect server, all days at once: it reads and writes the warehouse."""

    def compute(work: Work) -> Iterator[tuple[date, Files]]:
        with work.warehouse.results() as results:
            with connected(remote) as session, complaints(remote):
                places = {day: of.place for day, of in work.minutes.items()}
                write_rollup(session, places, results.place)
            written = _by_day(results.files())
            if not written and any(of.entry.rows for of in work.minutes.values()):
                raise SparkError(
                    f"Spark ({shown(remote)}) says that it wrote to {results.place}, and nothing "
                    "is there: its workers and this machine have to share the warehouse"
                )
            for day, of in work.minutes.items():
                made: dict[Width, Path] = {}
                for width in WIDTHS:
                    made[width] = work.folder / f"{day}-{width}.parquet"
                    parts = _fetched(results, written[day, width], work.folder)
                    as_contract(work.lake, USAGE[width], parts, made[width], of.window)
                yield day, made

    return compute


def _by_day(
    written: Iterable[PurePosixPath],
) -> defaultdict[tuple[date, Width], list[PurePosixPath]]:
    found = defaultdict[tuple[date, Width], list[PurePosixPath]](list)
    for path in written:
        width, day = _of_result(path)
        found[day, width].append(path)
    return found


def _fetched(results: Results, paths: Iterable[PurePosixPath], folder: Path) -> list[Path]:
    parts: list[Path] = []
    for path in paths:
        parts.append(folder / f"part-{len(parts)}.parquet")
        results.fetch(path, parts[-1])
    return parts


def write_rollup(session: SparkSession, minutes: Mapping[date, str], folder: str) -> None:
    """Write the hours and days of these days' minutes to `folder`, which is not there yet.

    As Parquet, in `width=1h/day=2024-01-05/`. Raises what a session raises.
    """
    usage_1m, *wider = USAGE.values()
    read(session, usage_1m, minutes).createOrReplaceTempView(usage_1m.name)
    parts: list[str] = []
    narrower = usage_1m.name
    for width, dataset in zip(WIDTHS, wider, strict=True):
        query = to_spark(engine.sql("rollup"), ordered=False)  # rows are sorted at the end
        rows = session.sql(
            f"WITH narrower AS (SELECT * FROM {narrower}) {query}", {"seconds": SECONDS[width]}
        )
        rows.createOrReplaceTempView(dataset.name)
        columns = ", ".join(dataset.schema.names)
        # Of the epoch's seconds, so that no session time zone has a say in it.
        day = "DATE '1970-01-01' + CAST(UNIX_TIMESTAMP(start_time) DIV 86400 AS INT)"
        parts.append(f"SELECT {columns}, '{width}' AS width, {day} AS day FROM {dataset.name}")
        narrower = dataset.name
    (
        session.sql(" UNION ALL ".join(parts))
        .repartition("width", "day")
        .sortWithinPartitions(*_SORTED_BY)  # ascending, NULL first
        .write.partitionBy("width", "day")
        .parquet(as_written(folder))
    )


def _of_result(path: PurePosixPath) -> tuple[Width, date]:
    """The width and day of a file that it wrote, by its path in the folder."""
    values = dict(part.split("=", 1) for part in path.parts[:-1])
    (width,) = (it for it in WIDTHS if it == values["width"])
    return width, date.fromisoformat(values["day"])
