"""The lake: a Parquet file per dataset and UTC day, and the catalog over them. Storage only.

    schemas            the data contract: columns, types, grain
    files              one file: to the letter of the contract, and what its footer says
    store              where everything stands: links, versions, staging, locks
    commit             days become new versions of themselves, in all their tables at once
    claims             which run of a home works on which days
    manifest           coverage, revisions, and a checksum of each file of a version
    damage             which files of a version are not what was published: a cheap test
    snapshot           the lake as every reader sees it: at one moment, without damaged files
    verification       whether the lake is what was published
    partitioned_write  rows of many days as a file a day
    engine             DuckDB in memory: connections, views over files, the files in `sql/`
    slices             tables in windows of time, for what memory does not hold at once
    shortage           too little memory or disk, said as that
    user_id_mode       whose ids the lake holds: as they are, or pseudonyms of one key
    forgotten          who has been forgotten, and what the lake calls them from then on
    retention          fine tables of old days are dropped, the coarser ones stay
    dropped_items      items of old days that are dropped, and how they are recognised
    consistency        whether the tables agree with the contract and with each other
    buckets            buckets of any width on the wall clock of any time zone
    macros             what `usage.duckdb` has besides the tables: macros and views
    catalog            `usage.duckdb`: views, macros and the rules of time zones, replaced whole
    catalog_files      a folder for each catalog behind one link, and what clients wrote into one
    completeness       up to when usage is complete, and which days are disputed

From a REPL: `Lake(Path("data/lake")).days("usage_1d")`.
"""
