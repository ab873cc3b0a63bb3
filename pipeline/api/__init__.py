"""The MKA1 API: what can be asked, how it is asked, and when an answer can be believed.

client     one authenticated GET, its limits, and which answers are worth another try
errors     what can go wrong, a class for each thing a caller can do about it
pacing     the rate limit that adapts to 429s
paging     the walk over a window: every bucket, or a loud failure
redaction  the key: added to requests, taken out of what servers send
retrying   backoff, `Retry-After`, and the budget of one request
usage      endpoint 1: its parameters and its page

No Dagster, no DuckDB, no files. From a REPL:

    async with Client(url, SecretStr(key)) as client:
        query = UsageQuery(start, end, "1m", group_by=("user_id", "api_key_id"))
        async for page in walk_usage(partial(get_usage, client), query): ...
"""

from pipeline.api.client import Answer, Client, Limits
from pipeline.api.errors import (
    AnswerTooBig,
    ApiError,
    InvalidQuery,
    MalformedBody,
    PagingError,
    QuotaExhausted,
    Refused,
    ShapeError,
    Unauthorized,
    Unavailable,
)
from pipeline.api.paging import PageSize, walk_usage
from pipeline.api.usage import Bucket, Result, UsagePage, UsageQuery, get_usage

__all__ = [
    "Answer",
    "AnswerTooBig",
    "ApiError",
    "Bucket",
    "Client",
    "InvalidQuery",
    "Limits",
    "MalformedBody",
    "PageSize",
    "PagingError",
    "QuotaExhausted",
    "Refused",
    "Result",
    "ShapeError",
    "Unauthorized",
    "Unavailable",
    "UsagePage",
    "UsageQuery",
    "get_usage",
    "walk_usage",
]
