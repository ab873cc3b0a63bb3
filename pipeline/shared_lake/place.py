"""Where a shared lake is: its catalog and its warehouse."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Place:
    """`catalog`: `sqlite:///…`, `postgresql://…`, or the URL of an Iceberg REST catalog; it may
    hold a password. `warehouse`: the absolute path of a folder, or `s3://bucket/prefix`."""

    catalog: str = field(repr=False)
    warehouse: str

    @property
    def shown(self) -> str:
        """The catalog's URL without user, password and parameters."""
        parts = urlsplit(self.catalog)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
