"""What the ingest benchmark runs, each in a process of its own: ``python -m`` this, a name, a job.

A job says where the canned server is (``url``), how many days to load (``days``) and where to put
what is loaded (``folder``). All ask for minutes by user and key: ours in pages of its own choice,
the others in pages of 1,440 buckets, the most that the endpoint gives. Facts: ``rows`` and
``operations`` (the sum of ``num_operations``) of what a contender produced.
"""

# Polars' own types leave NumPy's open, which this project does not install.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from tests.benchmarks.measure import Contender, Facts, Job, Prepared, contend
from tests.benchmarks.server import MOST_BUCKETS, USAGE_PATH, WINDOW_START

RAW: Final = "raw_usage"
DAYS: Final = "usage_1d"
MEASURES: Final = ("num_conversations_created", "num_items_added", "num_operations")
_TAIL: Final = re.compile(rb'"next_page":(?:"([^"]*)"|null)\}$')


def query(job: Job) -> dict[str, Any]:
    """The query that the other contenders send for the job's days, before any cursor."""
    return {
        "start_time": WINDOW_START,
        "end_time": WINDOW_START + int(job["days"]) * 86400,
        "bucket_width": "1m",
        "limit": MOST_BUCKETS,
        "group_by": ["user_id", "api_key_id"],
    }


def bytes_alone(job: Job) -> Prepared:
    """httpx reads every page and keeps nothing but the end, where the cursor is."""
    import httpx

    client = httpx.Client(base_url=job["url"], timeout=60)
    received = 0

    def run() -> None:
        nonlocal received
        parameters = query(job)
        while True:
            tail = b""
            with client.stream("GET", USAGE_PATH, params=parameters) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_raw():
                    received += len(chunk)
                    tail = (tail + chunk)[-200:] if len(chunk) < 200 else chunk[-200:]
            found = _TAIL.search(tail)
            if found is None:
                raise ValueError(f"no next_page at the end of a page: {tail!r}")
            if found.group(1) is None:
                return
            parameters["page"] = found.group(1).decode()

    return Prepared(run, lambda: {"bytes": received})


def ours(job: Job) -> Prepared:
    """The product: raw_usage, usage_1m, usage_1h and usage_1d of each day, checked and published.

    Its client has its default limits. It asks for pages of its own size, not for 1,440 buckets.
    Nothing that it installs needs pandas or NumPy. Where they are there, as they are for tests,
    Arrow imports them with the first list that becomes an array: 0.15 s and 45 MB.
    """
    for name in ("pandas", "numpy"):  # as in an installation without them
        sys.modules[name] = None  # type: ignore[assignment]

    from pydantic import SecretStr

    from pipeline.api import Client
    from pipeline.lake import engine
    from pipeline.lake.schemas import DATASETS
    from pipeline.lake.store import Lake
    from pipeline.timeline import Window
    from pipeline.usage.load import load_days

    lake = Lake(Path(job["folder"]))
    days = Window(WINDOW_START, WINDOW_START + int(job["days"]) * 86400).days

    def run() -> None:
        load_days(lambda: Client(job["url"], SecretStr("benchmark")), lake, days)

    def facts() -> Facts:
        con = engine.connect()
        totals: set[int] = set()
        for name in ("usage_1m", "usage_1h", "usage_1d"):
            engine.bind(con, {"published": (DATASETS[name], lake.files(name, days))})
            total = con.execute("SELECT sum(num_operations) FROM published").fetchone()
            assert total is not None
            totals.add(int(total[0]))
        rows = sum(each.rows for day in days if (each := lake.loaded("raw_usage", day)))
        (operations,) = totals
        return {"rows": rows, "operations": operations}

    return Prepared(run, facts)


def published_client(job: Job) -> Prepared:
    """The published client pages to the end and keeps every row, flattened into a tuple."""
    from meetkai_mka1 import SDK

    sdk = SDK(bearer_auth="benchmark", server_url=job["url"])
    usage = sdk.llm.usage
    rows: list[tuple[int, int, str | None, str | None, int, int, int]] = []

    def run() -> None:
        parameters = query(job)
        while True:
            page = usage.conversations(**parameters)
            for bucket in page.data:
                # The client leaves results untyped: plain dictionaries, as they were served.
                results = cast("list[dict[str, Any]]", bucket.results)
                for result in results:
                    rows.append(
                        (
                            bucket.start_time,
                            bucket.end_time,
                            result["user_id"],
                            result["api_key_id"],
                            result["num_conversations_created"],
                            result["num_items_added"],
                            result["num_operations"],
                        )
                    )
            if page.next_page is None:
                return
            parameters["page"] = page.next_page

    def facts() -> Facts:
        return {"rows": len(rows), "operations": sum(row[6] for row in rows)}

    return Prepared(run, facts)


def hand_written(job: Job) -> Prepared:
    """What a user would write instead: the published client, and Polars to the same four tables.

    Days one after the other, so that memory is a day; a column is a list, the fastest way from the
    client's dictionaries to a frame that was tried. Nothing is checked, retried or resumed.
    """
    import polars as pl
    from meetkai_mka1 import SDK

    usage = SDK(bearer_auth="benchmark", server_url=job["url"]).llm.usage
    moment, keys = pl.Datetime("us", "UTC"), ["user_id", "api_key_id"]
    schema: dict[str, type[pl.DataType]] = dict.fromkeys(keys, pl.String)
    schema |= dict.fromkeys(MEASURES, pl.Int64)

    def read(start: int) -> pl.DataFrame:
        parameters = query(job) | {"start_time": start, "end_time": start + 86400}
        starts: list[int] = []
        results: list[dict[str, Any]] = []
        while True:
            page = usage.conversations(**parameters)
            for bucket in page.data:
                found = cast("list[dict[str, Any]]", bucket.results)
                results += found
                starts += [bucket.start_time] * len(found)
            if page.next_page is None:
                break
            parameters["page"] = page.next_page
        columns = {name: [result[name] for result in results] for name in schema}
        rows = pl.DataFrame(columns, schema=schema)
        times = (pl.Series(starts, dtype=pl.Int64) * 1_000_000).cast(moment).alias("start_time")
        ends = (pl.col("start_time") + pl.duration(minutes=1)).alias("end_time")
        table = rows.with_columns(times).with_columns(ends)
        return table.select("start_time", "end_time", *keys, *MEASURES)

    def roll_up(rows: pl.DataFrame, seconds: int) -> pl.DataFrame:
        micros = seconds * 1_000_000
        start = pl.col("start_time").cast(pl.Int64) // micros * micros
        buckets = rows.with_columns(start).group_by("start_time", *keys).agg(pl.col(MEASURES).sum())
        ends = (pl.col("start_time") + micros).cast(moment).alias("end_time")
        whole = buckets.select(pl.col("start_time").cast(moment), ends, *keys, *MEASURES)
        return whole.sort("start_time", *keys)

    def run() -> None:
        for number in range(int(job["days"])):
            rows = read(WINDOW_START + number * 86400)
            rows = rows.sort("start_time", *keys, *MEASURES)
            for name, seconds in ((RAW, 0), ("usage_1m", 60), ("usage_1h", 3600), (DAYS, 86400)):
                rows = roll_up(rows, seconds) if seconds else rows
                path = Path(job["folder"]) / name / f"day={number}" / f"{name}.parquet"
                rows.write_parquet(path, compression="zstd", mkdir=True)

    def facts() -> Facts:
        tables = {
            name: pl.scan_parquet(Path(job["folder"]) / name / "**" / "*.parquet")
            .select(pl.len().alias("rows"), pl.col("num_operations").sum().alias("operations"))
            .collect()
            .row(0)
            for name in (RAW, "usage_1m", "usage_1h", DAYS)
        }
        (operations,) = {total for _, total in tables.values()}
        return {"rows": tables[RAW][0], "operations": operations}

    return Prepared(run, facts)


def dlt_rows(job: Job) -> Prepared:
    """dlt to Parquet, pages yielded as lists of rows."""
    from tests.benchmarks.dlt_contender import load

    return load(job, query(job), as_arrow=False)


def dlt_arrow(job: Job) -> Prepared:
    """dlt to Parquet, pages yielded as Arrow tables, which spares dlt its normalising of rows."""
    from tests.benchmarks.dlt_contender import load

    return load(job, query(job), as_arrow=True)


CONTENDERS: Final[Mapping[str, Contender]] = {
    "bytes alone": bytes_alone,
    "mka1-usage": ours,
    "hand-written script": hand_written,
    "published client": published_client,
    "dlt": dlt_rows,
    "dlt, Arrow tables": dlt_arrow,
}

if __name__ == "__main__":
    contend(CONTENDERS)
