"""dlt as a contender of the ingest benchmark: its own REST client and paginator, to Parquet.

Only this file knows dlt, which is an optional dependency (``pip install 'mka1-usage[bench]'``).
"""

# dlt need not be installed where types are checked, and its own types are partial where it is;
# pyarrow comes without types.
# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Facts, Job, Prepared
from tests.benchmarks.server import USAGE_PATH


def _flatten(buckets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each result, with its bucket's times."""
    return [
        {"start_time": bucket["start_time"], "end_time": bucket["end_time"], **result}
        for bucket in buckets
        for result in bucket["results"]
    ]


def load(job: Job, query: dict[str, Any], *, as_arrow: bool) -> Prepared:
    """Prepare a dlt pipeline from the usage endpoint to Parquet files in the job's folder.

    dlt's settings are its defaults, but for telemetry, which is off. Rows are yielded a page at a
    time: dlt is much slower when it is given them one by one.
    """
    folder = Path(job["folder"])
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DLT_DATA_DIR"] = str(folder / "dlt")

    import dlt
    import pyarrow as pa
    import pyarrow.parquet as pq
    from dlt.sources.helpers.rest_client.client import RESTClient
    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

    client = RESTClient(
        base_url=job["url"],
        headers={"Authorization": "Bearer benchmark"},
        paginator=JSONResponseCursorPaginator(cursor_path="next_page", cursor_param="page"),
        data_selector="data",
    )

    def usage() -> Iterator[Any]:
        for page in client.paginate(USAGE_PATH, params=query):
            rows = _flatten(page)
            yield pa.Table.from_pylist(rows) if as_arrow else rows

    pipeline = dlt.pipeline(
        pipeline_name="usage",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=(folder / "lake").as_uri()),
        dataset_name="mka1",
    )
    resource = dlt.resource(usage, name="raw_usage", write_disposition="replace")

    def run() -> None:
        pipeline.run(resource(), loader_file_format="parquet").raise_on_failed_jobs()

    def facts() -> Facts:
        files = sorted((folder / "lake" / "mka1" / "raw_usage").glob("*.parquet"))
        tables = [pq.read_table(file, columns=["num_operations"]) for file in files]
        column = pa.concat_tables(tables).column(0)
        return {"rows": len(column), "operations": int(sum(column.to_pylist()))}

    return Prepared(run, facts)
