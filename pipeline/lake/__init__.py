"""The lake: a Parquet file per dataset and UTC day, the queries over them, and the catalog.

schemas  the data contract: columns, types, grain
store    files on disk: staging, atomic publication, what is loaded
spool    pages of a walk, aside on disk until it has drained
engine   DuckDB in memory: connections, views over files, the files in `sql/`
rollup   served pages -> raw_usage -> usage_1m -> usage_1h -> usage_1d
audit    do the tables agree with the contract and with each other
catalog  `usage.duckdb`: views only, replaced whole

No HTTP, no Dagster. From a REPL: `Lake(Path("data/lake")).days("usage_1d")`.
"""
