"""What people call users, API keys, teams and cost centres, by a file that they write.

    file     names.csv, read and checked, by the ids that a lake holds
    check    the names held against what is used: who has none, and which lines nothing uses

A name is a label: what is counted is counted by ids, and a name never merges two of them.
"""
