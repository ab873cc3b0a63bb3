"""The contract as an OpenAPI 3.1 document, for people, generators of clients, and the tests.

It stands in `openapi.json`. What goes beyond the API says so there, and carries `x-extension`.
"""

from __future__ import annotations

import json
from importlib import metadata, resources
from typing import Any

from pipeline.api.usage import PATH


def document(*, by_key: bool) -> dict[str, Any]:
    """The document; `by_key`: whether a bearer key is asked for."""
    text = resources.files(__package__).joinpath("openapi.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    found["info"]["version"] = metadata.version("mka1-usage")
    if not by_key:
        question = found["paths"][PATH]["get"]
        question["security"] = []
        del question["responses"]["401"]
        found["components"]["securitySchemes"] = {}
    return found
