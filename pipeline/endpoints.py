"""The usage endpoints of the API, a row each: their names, what they group by, what they filter by.

Belongs here: facts of the contract alone, as the published client's types have them (docs/api.md,
"Other usage endpoints"). All of these answer with the same pages of buckets; what their results
count is untyped in the client, so no row names measures. Adding an endpoint is adding a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

GroupBy = Literal["user_id", "api_key_id", "org_id", "model", "background"]
Filter = Literal["models", "background"]
"""What some endpoints filter by, beside users and organisations, which all do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One usage endpoint: GET /api/v1/llm/usage/<name>."""

    name: str
    group_by: tuple[GroupBy, ...]
    filters: tuple[Filter, ...] = ()

    @property
    def path(self) -> str:
        """Its path at the gateway."""
        return f"/api/v1/llm/usage/{self.name}"

    @property
    def dimensions(self) -> tuple[GroupBy, ...]:
        """What a load groups by: all that it knows but the organisation, of which there is one."""
        return tuple(group for group in self.group_by if group != "org_id")


CONVERSATIONS: Final = Endpoint("conversations", ("user_id", "api_key_id", "org_id"))
"""Endpoint 1, whose three measures are known: `get_usage` reads it."""

METERED: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {
        endpoint.name: endpoint
        for endpoint in (
            Endpoint("completions", ("user_id", "api_key_id", "org_id", "model"), ("models",)),
            Endpoint(
                "responses",
                ("user_id", "api_key_id", "org_id", "model", "background"),
                ("models", "background"),
            ),
            Endpoint("embeddings", ("user_id", "api_key_id", "org_id", "model"), ("models",)),
            Endpoint("files", ("user_id", "api_key_id", "org_id")),
            Endpoint("vector_stores", ("user_id", "api_key_id")),
            Endpoint("extract", ("user_id", "api_key_id", "model"), ("models",)),
            Endpoint("classify", ("user_id", "api_key_id", "model"), ("models",)),
        )
    }
)
"""All others, by name: `get_meters` reads them."""
