"""The Dagster assets: thin edges over plain functions.

usage     raw_usage, usage_1m, usage_1h, usage_1d: load days, or roll them up again
metadata  what each materialization shows of its day
"""
