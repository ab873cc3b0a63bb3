"""How fast the product is beside the alternatives: reports, not tests.

Run all of it, from the root of the repository, with one command::

    python -m tests.benchmarks

Nothing here is collected by pytest and nothing here asserts a duration: a benchmark prints a
Markdown table for docs/benchmarks.md, says which targets were met, and exits with 0 either way.
What it does insist on is that all contenders produced the same rows: a wrong answer is an error.

- ``ingest``   from the first request to published files, beside dlt and a script written by hand
- ``rollup``   20 million minute rows to hours and days, beside DuckDB reading them and Polars
- ``demo``     how long ``mka1-usage demo`` takes
- ``shared``   a year of days committed to a shared lake, one by one
- ``serving``  pages over HTTP from ``mka1-usage serve``, beside the same queries in DuckDB

Beside them, ``false_alarms`` measures how often the alerts are wrong: a command of its own.

``measure`` runs contenders in fresh processes, ``report`` renders, ``server`` serves canned pages;
``*_contenders`` hold what is measured. Correctness belongs in the tests beside this folder.
"""
