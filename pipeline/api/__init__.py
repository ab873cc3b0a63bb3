"""The MKA1 API: what can be asked, how it is asked, and when an answer can be believed.

client         one authenticated GET or POST, its limits, and what becomes of the answer
clock          the machine's clock, held against the API's
conversations  endpoint 2: its parameters and its page
errors         what can go wrong, a class for each thing a caller can do about it
fields         what questions and answers of all endpoints have in common
items          endpoints 3 and 4: reading and adding items
listings       the walks over conversations, items and responses: nothing is lost
pacing         the rate limit that adapts to 429s
paging         the walk over a window: every bucket, or a loud failure
redaction      the key: added to requests, taken out of what servers send
responses      endpoint 5: its parameters and its page
retrying       backoff, `Retry-After`, and the budget of one request
route          the proxy and the certificates that the environment names
unicode        text that is not Unicode: written so that nothing is lost or merged
unpacking      bodies as they come off the wire, unpacked within bounds
usage          endpoint 1: its parameters and its page
verdicts       which answers are worth another try: a table
walks          the walks over each endpoint, of a client

No Dagster, no DuckDB, no files. From a REPL:

    async with Client(url, SecretStr(key)) as client:
        query = UsageQuery(start, end, "1m", group_by=("user_id", "api_key_id"))
        async for page in usage_pages(client, query): ...
"""

from pipeline.api.client import Answer, Client, Limits
from pipeline.api.clock import Clock
from pipeline.api.conversations import (
    Conversation,
    ConversationPage,
    ConversationsQuery,
    get_conversations,
)
from pipeline.api.errors import (
    AnswerTooBig,
    ApiError,
    BucketTooBig,
    InvalidQuery,
    MalformedBody,
    OutcomeUnknown,
    PagingError,
    QuotaExhausted,
    Refused,
    RouteError,
    ShapeError,
    Unauthorized,
    Unavailable,
    UnknownCoding,
)
from pipeline.api.items import Item, ItemPage, ItemsQuery, create_items, get_items
from pipeline.api.list_walk import ConversationWalk, ListWalk
from pipeline.api.network import Route, route_to
from pipeline.api.responses import Response, ResponsePage, ResponsesQuery, get_responses
from pipeline.api.retry import Retry
from pipeline.api.unicode import OddText, is_sendable
from pipeline.api.usage import Bucket, Result, UsagePage, UsageQuery, get_usage
from pipeline.api.usage_walk import PageSize, walk_narrowing, walk_usage
from pipeline.api.walks import (
    conversation_walk,
    item_walk,
    response_walk,
    usage_of_days,
    usage_pages,
)

__all__ = [
    "Answer",
    "AnswerTooBig",
    "ApiError",
    "Bucket",
    "BucketTooBig",
    "Client",
    "Clock",
    "Conversation",
    "ConversationPage",
    "ConversationWalk",
    "ConversationsQuery",
    "InvalidQuery",
    "Item",
    "ItemPage",
    "ItemsQuery",
    "Limits",
    "ListWalk",
    "MalformedBody",
    "OddText",
    "OutcomeUnknown",
    "PageSize",
    "PagingError",
    "QuotaExhausted",
    "Refused",
    "Response",
    "ResponsePage",
    "ResponsesQuery",
    "Result",
    "Retry",
    "Route",
    "RouteError",
    "ShapeError",
    "Unauthorized",
    "Unavailable",
    "UnknownCoding",
    "UsagePage",
    "UsageQuery",
    "conversation_walk",
    "create_items",
    "get_conversations",
    "get_items",
    "get_responses",
    "get_usage",
    "is_sendable",
    "item_walk",
    "response_walk",
    "route_to",
    "usage_of_days",
    "usage_pages",
    "walk_narrowing",
    "walk_usage",
]
