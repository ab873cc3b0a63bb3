"""Tables that fit a terminal: the columns that matter stay whole, the others are named below.

A column that is cut to some letters says nothing, and a table whose cells are folded is hard to
read. So columns are left out, the least important first, until the rest fits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.table import Table

from pipeline.messages import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_BESIDE: Final = 3
"""Columns of the terminal that a column of a table takes beside its text."""
_FOLLOWS: Final = {"end_time": "start_time", "day": "start_time", "local_end": "local_start"}
"""Columns that say nothing that another one does not say."""

_DETAILS: Final = {"num_conversations_created", "num_items_added"}
"""Measures that say less of who uses how much than the operations, which count them too."""

_IDS: Final = {"user_id", "api_key_id"}
"""Columns that are folded first where too little can be left out: ids have any length."""
_SHORT: Final = 8
"""Characters down to which ids are folded, and at last the other columns."""
_WORD: Final = 16
"""Characters down to which other columns are folded before."""


def fitting(
    columns: Sequence[str], expendable: Iterable[str], fits: Callable[[Sequence[str]], bool]
) -> tuple[list[str], list[str]]:
    """The columns that stay and those that are left out, in their order.

    Those that are `expendable` go first, in that order; the last column is never left out.
    """
    stay = list(columns)
    for name in [name for name in expendable if name in columns]:
        if len(stay) == 1 or fits(stay):
            break
        stay.remove(name)
    return stay, [name for name in columns if name not in stay]


def by_importance(
    columns: Sequence[str], constant: Collection[str], named: Collection[str]
) -> list[str]:
    """The columns of a result, those that matter least first.

    Least matters what follows from another column, then a detail beside the operations, then what
    is the same in all rows, then what stands on the right. What whoever asked has `named` matters
    more than all others.
    """

    def importance(place: int) -> tuple[bool, bool, bool, bool, int]:
        name = columns[place]
        follows = _FOLLOWS.get(name) in columns
        is_detail = name in _DETAILS and "num_operations" in columns
        return name in named, not follows, not is_detail, name not in constant, -place

    return [columns[place] for place in sorted(range(len(columns)), key=importance)]


def print_fitting(
    out: Console,
    title: str,
    numbers: Collection[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Text]],
    expendable: Sequence[str],
) -> None:
    """Print a table without those `expendable` columns, in that order, that do not fit.

    They are named below it. The columns of `numbers` stand right.
    """
    widths = {
        name: max([len(name), *(row[place].cell_len for row in rows)])
        for place, name in enumerate(columns)
    }

    def fits(stay: Sequence[str]) -> bool:
        return sum(widths[name] + _BESIDE for name in stay) < out.width

    stay, hidden = fitting(columns, expendable, fits)
    table = Table(title=title, title_justify="left", title_style="bold")
    folded = _folded({name: widths[name] for name in stay}, out.width - 1 - _BESIDE * len(stay))
    for name in stay:
        table.add_column(
            name,
            justify="right" if name in numbers else "left",
            overflow="fold",
            width=folded[name],  # rich, left to find it, cuts the table off at the right
        )
    for row in rows:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in stay))
    out.print(table)
    if hidden:
        sentence = left_out(hidden, "`| cat` behind the command")
        out.print(sentence, highlight=False, markup=False)


def _folded(widths: Mapping[str, int], room: int) -> dict[str, int]:
    """Widths of columns that take so much room together: the widest are narrowed, ids first."""
    found = dict(widths)
    ids = [name for name in found if name in _IDS]
    others = [name for name in found if name not in _IDS]
    for names, least in ((ids, _SHORT), (others, _WORD), (others, _SHORT)):
        while sum(found.values()) > room and names:
            widest = max(names, key=lambda name: found[name])
            if found[widest] <= least:
                break
            found[widest] -= 1
    return found


def left_out(names: Sequence[str], how: str) -> str:
    """The sentence below a table about the columns that it does not show, and what shows them."""
    return f"{count(len(names), 'more column')}: {', '.join(names)}; {how} shows all"
