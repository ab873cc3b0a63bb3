"""mka1-usage: the MKA1 usage API as Parquet tables that anyone can query.

    definitions      what Dagster loads
    cli/             mka1-usage: arguments in, exit codes out; a file per kind of command
    doctor/          mka1-usage doctor: what is wrong where it runs, and how to fix it
    orchestration/   Dagster: assets, checks, schedules, the alert sensor, runs

    notify/          alerts and a weekly digest to Slack, a webhook and by mail

    export/          the lake as files for BI tools: a star schema, described
    report/          mka1-usage report: a page of charts, in HTML and as pictures
    serve/           mka1-usage serve: the API's own pages over HTTP, and the report live
    alerts/          late data, spikes, silence, failures and budgets, found in the lake
    forget/          mka1-usage forget: a person taken out of all that is kept
    emulator/        a stand-in for the API, with a count of its own

    names/           names.csv: what people call users, keys and teams

    query/           questions to the lake: buckets, ad-hoc SQL, status, reconciliation
    spark/           roll-ups and questions by Spark, over the shared lake
    pricing/         prices and budgets: what usage costs, and when a budget ends

    usage/           usage, meters, bills: pages to published days, totals check, refresh
    conversations/   conversations: fetch, merge, observe, reconcile
    run_log          what the last run of each job asked for, and how it ended

    shared_lake/     the tables in Iceberg, for several workers and other engines

    api/             the API: client, its endpoints, safe walks
    lake/            the tables: contract, files, commits, snapshots, catalog

    settings         the environment as one validated object
    terminal         messages to a person
    fitting          which columns of a table a narrow terminal shows
    messages         counts and commands as messages name them
    addresses        where messages go: webhooks, mail servers, mail addresses
    endpoints        the usage endpoints: a row each
    timeline         UTC days, windows, bucket widths: all date arithmetic
    apart            where records of days that are not loaded stand
    periods          periods by name: this week, last month
    zones            time zones as offsets, from the IANA database
    thresholds       what the alerts compare with
    retention        for how long fine tables are kept
    memory           how much of it queries may use
    paths            which folders can be used, by the characters in their paths
    pseudonyms       user ids that name nobody, by a keyed hash
    async_runner     an event loop in a thread of its own
    listening        a socket that a server listens on, and why it can't
    interrupts       Ctrl-C, kill and a closed terminal end work in the same way

A module imports from its own group or from those below, never from those above: `lint-imports`
checks it, by `[tool.importlinter]` in pyproject.toml. The SQL is in `sql/` beside the package, one
statement a file.
"""
