"""The lake: storage only. No HTTP, no Dagster; docs/design.md, "Commits, manifests and snapshots".

schemas, files, partitioned_write   the data contract, and files to the letter of it
store, commit, manifest             where everything stands; versions of days, and what they hold
snapshot, completeness, damage      the lake at one moment, without the files that are damaged
consistency, verification           do tables agree with each other; is the lake what was published
engine, buckets                     DuckDB over files; buckets of any width and time zone
catalog, catalog_files, macros      usage.duckdb
user_id_mode                        user ids as they are, or pseudonyms of one key

From a Python prompt: `Lake(Path("data/lake")).days("usage_1d")`.
"""
