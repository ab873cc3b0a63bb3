"""The names held against what is used: who has none, and which lines nothing uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from pipeline.lake import engine
from pipeline.lake.schemas import USAGE
from pipeline.lake.snapshot import Snapshot
from pipeline.messages import be, count
from pipeline.names.file import Named, Names
from pipeline.terminal import printable

MOST: Final = 10
"""So many of a kind are listed."""
_COLUMNS: Final = {"user": "user_id", "key": "api_key_id"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of names that can be read. Lines are those of the file."""

    used: dict[str, int]
    """How many users and keys are in use."""
    unnamed: dict[str, Sequence[str]]
    """Those of them that the file has no line of, who uses most first."""
    unused: Sequence[Named]
    """Lines of users and keys without usage, and of teams that nobody is in."""
    shared: Sequence[tuple[str, Sequence[Named]]]
    """Names that several ids of a kind have."""
    unlisted: Sequence[str]
    """Teams that somebody is in, and that have no line, so no name."""


def check_names(snapshot: Snapshot, names: Names) -> Checked:
    """Hold the names against the users and keys of a snapshot."""
    used: dict[str, list[str]] = {}
    hours = USAGE["1h"]
    with closing(engine.connect(snapshot.lake)) as con:
        engine.bind(con, {hours.name: (hours, snapshot.files(hours.name))})
        for kind, column in _COLUMNS.items():
            members = f"FROM ({engine.sql('members')}) WHERE id IS NOT NULL"
            found = con.execute(
                f"SELECT id {members} ORDER BY num_operations DESC NULLS LAST, id", {"by": column}
            )
            used[kind] = [id_ for (id_,) in found.fetchall()]
    return _checked(used, names)


def _checked(used: dict[str, list[str]], names: Names) -> Checked:
    lines = sorted([*names.rows, *names.nameless], key=lambda row: row.line)
    listed = {(row.kind, row.id) for row in lines}
    in_use = {(kind, id_) for kind, ids in used.items() for id_ in ids}
    with_members = {row.team for row in names.rows if row.team}
    groups = {row.id for row in names.rows if row.kind not in used}
    by_name: dict[tuple[str, str], list[Named]] = defaultdict(list)
    for row in names.rows:
        if row.name:
            by_name[row.kind, row.name].append(row)
    return Checked(
        {kind: len(ids) for kind, ids in used.items()},
        {kind: [id_ for id_ in ids if (kind, id_) not in listed] for kind, ids in used.items()},
        [
            row
            for row in lines
            if (
                (row.kind, row.id) not in in_use if row.kind in used else row.id not in with_members
            )
        ],
        [(name, rows) for (_, name), rows in by_name.items() if rows[1:]],
        sorted(with_members - groups),
    )


def print_check(checked: Checked, names: Names, out: Console) -> None:
    """Print what a check found, for a terminal of 80 columns too.

    Lines of users are named by their number, since under pseudonyms their ids are not to be seen.
    """
    for line in _lines(checked, names):
        out.print(Text(line), soft_wrap=True)


def _lines(checked: Checked, names: Names) -> Iterator[str]:
    for kind, number in checked.used.items():
        with_line = number - len(checked.unnamed[kind])
        yield f"{with_line:,} of {count(number, kind)} in use {be(with_line)} in the file"
    if names.withheld:
        yield (
            f"{count(names.withheld, 'name')} of users {be(names.withheld)} left out: beside a "
            "pseudonym, a name would undo it; teams count"
        )
    for kind, ids in checked.unnamed.items():
        yield from _list(f"Not in the file, {kind}s who use most first:", map(printable, ids))
    yield from _list(
        "Nothing that is loaded uses:",
        (f"line {row.line}: {_shown(row)}" for row in checked.unused),
    )
    yield from _list(
        "In teams without a line, so without a name:", map(printable, checked.unlisted)
    )
    yield from _list(
        "Several have the same name, so each is shown with its id:",
        (
            f"{printable(name)}: lines {', '.join(str(row.line) for row in rows)}"
            for name, rows in checked.shared
        ),
    )


def _shown(row: Named) -> str:
    if row.kind == "user":
        return f"a user{' named ' + printable(row.name) if row.name else ''}"
    return f"{row.kind.replace('_', ' ')} {printable(row.id)}"


def _list(title: str, rows: Iterator[str]) -> Iterator[str]:
    found = [*rows]
    if found:
        yield f"\n{title}"
        yield from (f"  {row}" for row in found[:MOST])
        if found[MOST:]:
            yield f"  and {len(found) - MOST:,} more"
