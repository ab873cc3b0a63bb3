"""The lake as files for BI tools: a star schema and the plain tables, described in themselves.

tables, dictionary    what can be exported, and DATA_DICTIONARY.md about it
keys                  numbers and names of users, API keys and models
rows, files           rows of a table from one snapshot, and as Parquet, CSV or DuckDB
workbook              all tables as one Excel workbook
folder                the export's folder: replaced file by file
export                an export from beginning to end
"""
