"""mka1-usage: the MKA1 usage API as Parquet tables that anyone can query.

    api/            the API: client, five endpoints, safe walks   no Dagster, no DuckDB, no files
    lake/           the tables: contract, files, SQL, catalog     no HTTP, no Dagster
    timeline        UTC days, windows, bucket widths: all date arithmetic
    words           a number and what it counts: 1 day, 2 days
    zones           time zones as offsets, from the IANA database
    paths           which folders can be used, by the characters in their paths
    settings        the environment as one validated object
    pseudonyms      user ids that name nobody, by a keyed hash
    background      an event loop in a thread of its own
    commands        our commands as messages name them
    interrupts      Ctrl-C, kill and a closed terminal end work in the same way
    loading         load days of usage: where endpoint 1 meets the lake
    syncing         read conversations of those with usage: where endpoints 2, 3 and 5 meet it
    people          who is behind a pseudonym, for as long as a sync takes
    listing         one listing: what one key shows for one user
    probe           how late and how exactly usage counts: the one thing that writes
    proof           our days against the API's own totals
    refreshing      which days has the API restated: exactly those are loaded again
    status          mka1-usage status: what is loaded, as a calendar
    pages           the lake answers in the API's own shape
    serving/        mka1-usage serve: the pages over HTTP, as the API serves them   no Dagster
    adhoc           read-only SQL over the published tables
    exporting/      the lake as files for BI tools: a star schema, described   no HTTP, no Dagster
    alerts/         what on-call wants to know, found in the lake     no Dagster, no clock

    resources       what Dagster's assets and checks are given
    partitions      UTC days as Dagster partitions
    assets/         the assets: thin edges over loading, syncing and lake
    checks          the checks
    schedules       the jobs and when they are launched
    watching        the alerts as Dagster tells of them: checks, a sensor, a job that fails
    definitions     the code location: build_defs(), defs
    instance        the Dagster home below the home folder
    runs            the jobs, run in this process

    doctor/         mka1-usage doctor: what is amiss where it runs, and how to mend it

    cli/            mka1-usage: arguments in, exit codes out; a file per kind of command
    terminal        what a person sees while days are loaded
    demo            mka1-usage demo
    reconciled      mka1-usage reconcile: how much agrees, and the worst of what does not
    reporting/      mka1-usage report: a page of charts, in HTML and as pictures
    probing         mka1-usage probe: settings to a client, events to lines
    emulator/       a stand-in for the API, with a count of its own   imports nothing else of this

Dependencies point up: api and lake know neither each other nor Dagster; edges are thin. The SQL is
in `sql/` beside the package, one statement a file.
"""
