"""What people write themselves: names, budgets, prices. It is left to them; here it is read.

Belongs here: what these files say of the person that nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.forget.person import Person, is_pseudonym
from pipeline.names.file import read_names
from pipeline.pricing.hand_written import HandWrittenError, cells
from pipeline.pseudonyms import Pseudonyms


def real_ids(user: str, pseudonyms: Pseudonyms | None, written: Iterable[Path]) -> list[str]:
    """The real ids of a pseudonym that stand in these files: they are written by real ids."""
    if pseudonyms is None or not is_pseudonym(user):
        return []
    every = {cell for path in written for cell in cells(path)}
    return sorted(cell for cell in every if pseudonyms.of(cell) == user)


def names_of(person: Person, names: Path) -> list[str]:
    """What the file of names calls the person, where no word of theirs says that already."""
    try:
        known = read_names(names).users
    except HandWrittenError:  # the search names its lines, and `names check` what is wrong
        return []
    called = {known[word] for word in person.words if word in known}
    return sorted(name for name in called if not person.is_in(name))
