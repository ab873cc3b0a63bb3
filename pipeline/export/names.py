"""Names that people know users and API keys by: reading and checking the CSV that has them.

kind,id,name
user,user_0000,Ada Lovelace
api_key,key_web,Web shop
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.messages import count

_HEADER: Final = ["kind", "id", "name"]


class NamesError(ValueError):
    """The file is not one of names. One line, with the number of the line that is wrong."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names by id."""

    users: Mapping[str, str] = field(default_factory=dict[str, str])
    api_keys: Mapping[str, str] = field(default_factory=dict[str, str])


def read_names(path: Path) -> Names:
    """The names in a CSV with the header `kind,id,name`; UTF-8, with or without a BOM.

    Ids are taken to the letter, names without the spaces around them. Raises NamesError for a line
    that says nothing or says what another line has said otherwise; OSError where there is no file.
    """
    names: dict[str, dict[str, str]] = {"user": {}, "api_key": {}}
    for place, (kind, id_, name) in _lines(path):
        if kind not in names:
            raise NamesError(f"{place}: kind is {kind!r}, and must be user or api_key")
        if not id_:
            raise NamesError(f"{place}: the id is empty")
        if not name.strip():
            raise NamesError(f"{place}: {id_!r} has no name")
        if names[kind].setdefault(id_, name.strip()) != name.strip():
            raise NamesError(f"{place}: {id_!r} has the name {names[kind][id_]!r} already")
    return Names(names["user"], names["api_key"])


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each line that is not empty, with where it stands."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if header != _HEADER:
                raise NamesError(f"{path}, line 1: it must be {','.join(_HEADER)}")
            for cells in reader:
                place = f"{path}, line {reader.line_num}"
                if len(cells) not in {0, len(_HEADER)}:
                    raise NamesError(
                        f"{place}: it has {count(len(cells), 'column')}, and must have kind, id "
                        "and name (quote a text that holds a comma)"
                    )
                if cells:
                    yield place, cells
    except UnicodeDecodeError:
        raise NamesError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from None
    except csv.Error as error:
        raise NamesError(f"{path}, line {reader.line_num}: {error}") from None
