"""The contract as an OpenAPI 3.1 document, for people, generators of clients, and the tests.

Belongs here: what is asked and answered, in words and schemas. What goes beyond the API says so,
and carries `x-extension`.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Final

from pipeline.api.usage import MAX_LIMIT, PATH
from pipeline.pages import RESULT
from pipeline.serving.parameters import DEFAULT_LIMITS, DEFAULT_WIDTH
from pipeline.timeline import ANY_WIDTHS, WIDTHS

_FIRST, _LAST = 0, 253_402_300_799
_SECONDS: Final = {"type": "integer", "format": "int64", "minimum": _FIRST, "maximum": _LAST}
_MOMENT: Final = {"type": "integer", "format": "int64"}
"""A time in an answer: a bucket that holds the first second of 1970 may begin before it."""
_COUNT: Final = {"type": "integer", "format": "int64", "minimum": 0}
_ID: Final = {"type": ["string", "null"]}

_USAGE_WORDS: Final = """\
Usage in time buckets, from what has been loaded, in the shape of the API's endpoint of this path.
Every bucket of the window is there, one without usage with `results: []`. The window is widened to
whole buckets.

A window with days that were never loaded is refused, as zero is not the same as unknown; but what
lies after the last day that is loaded is served as empty. `X-Usage-Complete-Through` says before
when the numbers of a page are complete.
"""


def document(*, by_key: bool) -> dict[str, Any]:
    """The document; `by_key`: whether a bearer key is asked for."""
    busy = _error("More is asked for than the server can answer now.")
    busy["headers"] = {
        "Retry-After": {"description": "Seconds.", "required": True, "schema": _COUNT}
    }
    errors: dict[str, Any] = {
        "400": _error("A parameter is not possible, or days of the window are not loaded."),
        "414": _error("The query string is too long."),
        "500": _error("The lake cannot be read."),
        "503": busy,
    }
    if by_key:
        unauthorized = _error("The bearer key is missing or is none of this server's.")
        unauthorized["headers"] = {
            "WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}
        }
        errors["401"] = unauthorized
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mka1-usage serve",
            "version": metadata.version("mka1-usage"),
            "summary": "Usage of MKA1 from tables of one's own, in the shape of the API.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            PATH: {
                "get": {
                    "operationId": "getConversationsUsage",
                    "summary": "Usage in time buckets",
                    "description": _USAGE_WORDS,
                    "security": [{"bearer": []}] if by_key else [],
                    "parameters": _parameters(),
                    "responses": {
                        "200": {
                            "description": "A page of buckets.",
                            "headers": _headers(),
                            "content": {
                                "application/json": {
                                    "schema": _ref("Page"),
                                    "example": _EXAMPLE,
                                }
                            },
                        },
                        "304": {
                            "description": "The page is still the one of `If-None-Match`.",
                            "headers": _headers(),
                        },
                        **dict(sorted(errors.items())),
                    },
                }
            }
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}} if by_key else {},
            "schemas": _SCHEMAS,
        },
    }


def _parameters() -> list[dict[str, Any]]:
    limits = ", ".join(f"{limit} at {width}" for width, limit in DEFAULT_LIMITS.items())
    return [
        {
            **_query("start_time", _SECONDS, "Start of the window, Unix seconds, inclusive."),
            "required": True,
            "example": 1_704_067_200,
        },
        {
            **_query(
                "end_time",
                _SECONDS,
                "End of the window, Unix seconds, exclusive; after `start_time`. Default: now.",
            ),
            "example": 1_704_153_600,
        },
        _query(
            "bucket_width",
            {"type": "string", "enum": list(ANY_WIDTHS), "default": DEFAULT_WIDTH},
            f"Width of a bucket. The API has {', '.join(WIDTHS)}; the others are an extension.",
        ),
        _query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            f"Most buckets on a page. Default: {limits}.",
        ),
        _query(
            "page",
            {"type": "string"},
            "`next_page` of the page before, unchanged, with all else as it was but `limit`.",
        ),
        _list(
            "user_ids",
            {"type": "string"},
            "Count these end users only. The ids as the API has them, also where pseudonyms of "
            "them are stored.",
        ),
        _list(
            "group_by",
            {"type": "string", "enum": ["user_id", "api_key_id"]},
            "What to count apart. Else the id is null and all are counted as one.",
        ),
        {
            **_query(
                "tz",
                {"type": "string", "default": "UTC"},
                "An extension: the IANA time zone whose wall clock buckets keep to, such as "
                "Asia/Karachi. Days, weeks (from Monday) and months begin at its midnight.",
            ),
            "x-extension": True,
        },
    ]


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _list(name: str, items: dict[str, Any], description: str) -> dict[str, Any]:
    words = f"{description} An array is its name repeated: `{name}=a&{name}=b`."
    schema = {"type": "array", "items": items}
    return {**_query(name, schema, words), "style": "form", "explode": True}


def _headers() -> dict[str, Any]:
    return {
        "X-Usage-Complete-Through": {
            "description": (
                "Unix seconds. Buckets of this page that end at or before it are complete. Later "
                "ones may lack usage that is not loaded."
            ),
            "required": True,
            "schema": _MOMENT,
            "x-extension": True,
        },
        "ETag": {
            "description": "Of this page as it is now, for `If-None-Match`.",
            "required": True,
            "schema": {"type": "string"},
            "x-extension": True,
        },
    }


def _error(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": _ref("Error")}},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_SCHEMAS: Final = {
    "Page": _closed(
        {
            "object": {"const": "page"},
            "data": {"type": "array", "items": _ref("Bucket"), "maxItems": MAX_LIMIT},
            "has_more": {"type": "boolean"},
            "next_page": {
                "type": ["string", "null"],
                "description": "What to send as `page` for the page after this; null on the last.",
            },
        }
    ),
    "Bucket": _closed(
        {
            "object": {"const": "bucket"},
            "start_time": {**_MOMENT, "description": "Unix seconds, inclusive."},
            "end_time": {**_MOMENT, "description": "Unix seconds, exclusive."},
            "results": {"type": "array", "items": _ref("Result")},
        }
    ),
    "Result": _closed(
        {
            "object": {"const": RESULT},
            "num_conversations_created": _COUNT,
            "num_items_added": _COUNT,
            "num_operations": _COUNT,
            "user_id": {
                **_ID,
                "description": "Null: not grouped by it, or usage without an end user.",
            },
            "api_key_id": {
                **_ID,
                "description": "Null: not grouped by it, or usage without an API key.",
            },
        }
    ),
    "Error": _closed(
        {"error": {"type": "string", "description": "What is wrong, and what would be right."}}
    ),
}

_EXAMPLE: Final = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": 1_704_067_200,
            "end_time": 1_704_153_600,
            "results": [
                {
                    "object": RESULT,
                    "num_conversations_created": 5,
                    "num_items_added": 18,
                    "num_operations": 30,
                    "user_id": "user_123",
                    "api_key_id": "key_abc123",
                }
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}
