"""The usage endpoints that the emulator serves: what each counts, and by what."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

DIMENSIONS = ("user_id", "api_key_id", "model", "background")
"""What may be grouped by and filtered by. An endpoint knows the first two, three or four."""
_TOKENS = (
    *("num_model_requests", "input_tokens", "input_cached_tokens"),
    *("output_tokens", "output_reasoning_tokens", "total_tokens"),
)


@dataclass(frozen=True)
class Endpoint:
    """GET /usage/<name>. `has_org` is whether it takes `group_by=org_id`."""

    name: str
    dimensions: tuple[str, ...]
    measures: tuple[str, ...]
    has_org: bool = True

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """What a result holds, in order."""
        return ("object", *self.measures, *self.dimensions)

    @cached_property
    def object(self) -> str:
        """What a result says that it is."""
        return f"organization.usage.{self.name}.result"

    @property
    def group_by(self) -> tuple[str, ...]:
        """All that `group_by` may name."""
        return (*self.dimensions, "org_id") if self.has_org else self.dimensions


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(
            "conversations",
            DIMENSIONS[:2],
            ("num_conversations_created", "num_items_added", "num_operations"),
        ),
        Endpoint("completions", DIMENSIONS[:3], _TOKENS),
        Endpoint("responses", DIMENSIONS, _TOKENS),
        Endpoint("embeddings", DIMENSIONS[:3], _TOKENS),
        Endpoint("files", DIMENSIONS[:2], ("num_files", "file_bytes")),
        Endpoint(
            "vector_stores", DIMENSIONS[:2], ("num_vector_stores", "usage_bytes"), has_org=False
        ),
        Endpoint(
            "extract",
            DIMENSIONS[:3],
            ("num_requests", "input_tokens", "output_tokens"),
            has_org=False,
        ),
        Endpoint(
            "classify",
            DIMENSIONS[:3],
            ("num_requests", "input_tokens", "output_tokens"),
            has_org=False,
        ),
    )
}
"""By name."""
CONVERSATIONS = ENDPOINTS["conversations"]
"""Endpoint 1."""
