"""Where a shared lake is: its catalog and its warehouse."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr


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


def place_of(catalog: SecretStr | None, warehouse: str | None) -> Place | None:
    """The place that two settings name; None where there is no shared lake."""
    if catalog is None or warehouse is None:
        return None
    return Place(catalog.get_secret_value(), warehouse)
