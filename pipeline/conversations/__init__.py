"""Conversations, items and responses: read what is new, store it by day, count and compare it.

sync                 the whole: whom to read, reading, storing, counting
fetch                one listing: what one key shows for one user
row_buffer           rows as they are read, on disk until all are there
merge                rows into the tables, by day, one row per id
places               which day's file each row stands in
cursors              where each listing and each conversation goes on
visit_log            which listings were read, and what usage said of them then
observe              buckets counted from conversations and items
reconcile            reported beside observed, and why they differ
derive               what days still owe: observing, reconciling
repair               damaged files of rows, taken out and read again
pseudonym_resolver   the real id behind a pseudonym, while a sync runs
"""
