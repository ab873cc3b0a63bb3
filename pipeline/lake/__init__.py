"""The lake: a Parquet file per dataset and UTC day, the queries over them, and the catalog.

schemas       the data contract: columns, types, grain
files         one file: to the letter of the contract, and what its footer says
store         where everything stands: links, versions, staging, locks
publication   days become new versions of themselves, in all their tables at once
ledger        coverage, revisions and a sealed record of each file
damage        which files of a version are not what was published: a cheap test
snapshot      the lake as a reader sees it: one look, without the files that are damaged
verification  is the lake what was published
by_day        rows of many days as a file a day
engine        DuckDB in memory: connections, views over files, the files in `sql/`
spool         pages of a usage walk, aside on disk until it has drained
rollup        served pages -> raw_usage -> usage_1m -> usage_1h -> usage_1d
sights        what a sync has seen, aside on disk until it is landed
records       sights -> conversations, responses, items
observed      conversations, items -> observed_1m -> observed_1h -> observed_1d
reconcile     usage_1d beside observed_1d -> reconciliation
derived       observed and reconciled again: the days that owe it
mending       damaged files of records are taken out, and the day owes them
visiting      whose usage has changed since their listing was read
sync_state    how far listings and conversations are read: a cache
identity      whose ids the lake holds: as they are, or pseudonyms of one key
audit         do the tables agree with the contract and with each other
buckets       buckets of any width on the wall clock of any time zone
macros        what `usage.duckdb` has besides the tables: macros and views for common questions
catalog       `usage.duckdb`: views, macros and the rules of time zones, replaced whole
catalog_files a folder for each catalog behind one link, and what clients have written into one
completeness  up to when usage is complete, and which days are disputed

No HTTP, no Dagster. From a REPL: `Lake(Path("data/lake")).days("usage_1d")`.
"""
