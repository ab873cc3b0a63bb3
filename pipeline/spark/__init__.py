"""The same SQL on Spark, over the files of the shared lake, by Spark Connect.

    dialect     queries of sql/, and people's own, as Spark says them
    macros      the macros of `usage.duckdb`, written out where a question uses them
    tables      the tables as temporary views over the shared lake's files
    question    one read-only question: what is asked, checked and answered
    rollup      minutes of any number of days to hours and days, in one commit; by DuckDB too
    job         the part of that which Spark does
    connect     a session of a Spark Connect server, in UTC; its errors as one line

No Spark runs in this process: pyspark is a client, and is imported when a session is opened.
`rollup` and `connect` need nothing of the extra `spark` before.
"""
