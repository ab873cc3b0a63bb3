"""The Dagster assets: thin edges over plain functions.

usage          raw_usage, usage_1m, usage_1h, usage_1d: load days, or roll them up again
conversations  conversations to reconciliation: one step that reads, counts and compares
refresh        days that the API has restated are loaded again
report         the page of charts, after a run
export         the files for BI tools, after a run
days           which days a run is about
metadata       what each materialization shows of its day
finalize       the end of every run: what days still owe, the catalog, the events
"""
