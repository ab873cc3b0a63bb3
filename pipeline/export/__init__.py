"""The lake as files for BI tools: a star schema and the plain tables, described in themselves.

tables        what can be exported: grain, columns and what they mean
names         names of users and API keys that people know, from a CSV
keys          users and API keys as numbers, the same in every export
rows          where the rows of a table come from: one look at the lake
files         a table as Parquet, as CSV, or all of them as one DuckDB file
dictionary    DATA_DICTIONARY.md
folder        the export's folder: replaced file by file, what others put there is left alone
export        an export from beginning to end

Reads the lake, never writes to it. No HTTP, no Dagster.
"""
