"""Names for tests: as a file has them, and as the product holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.names.file import Named, Names

NO_NAMES: Mapping[str, str] = {}


def names(
    users: Mapping[str, str] = NO_NAMES,
    keys: Mapping[str, str] = NO_NAMES,
    teams: Mapping[str, str] = NO_NAMES,
) -> Names:
    """Names by id, of nobody in a team."""
    return Names(
        [
            *(Named(2, "user", id_, name, "") for id_, name in users.items()),
            *(Named(2, "key", id_, name, "") for id_, name in keys.items()),
            *(Named(2, "team", id_, name, "") for id_, name in teams.items()),
        ]
    )


def write_names(home: Path, *lines: str) -> Path:
    """A `names.csv` with these lines."""
    path = home / "names.csv"
    path.write_text("\n".join(["kind,id,name,team", *lines, ""]), encoding="utf-8")
    return path
