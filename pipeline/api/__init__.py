"""The MKA1 API (docs/api.md): a client, its endpoints, and walks that lose nothing.

client                                   one request: a decoded answer, or a clear error
network, rate_limit, retry, redaction,
decompression, clock, errors             what the client consists of
usage, conversations, items, responses   the endpoints: their questions and their pages
meters, costs                            the other usage endpoints, and what is billed
fields, unicode                          what the endpoints have in common
usage_walk, list_walk                    pages into a whole, without a loss
walks                                    a function for each question: start here

From a Python prompt:

    async with Client(url, SecretStr(key)) as client:
        query = UsageQuery(start, end, "1m", group_by=("user_id", "api_key_id"))
        async for page in usage_pages(client, query): ...
"""

from pipeline.api.client import Client, Limits
from pipeline.api.clock import Clock
from pipeline.api.conversations import Conversation, ConversationsQuery, get_conversations
from pipeline.api.costs import CostRow, Costs, CostsQuery, get_costs
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
from pipeline.api.items import Item, ItemsQuery, create_items, get_items
from pipeline.api.meters import MeterBucket, MeterPage, MeterRow, get_meters
from pipeline.api.network import route_to
from pipeline.api.rate_limit import quota_of
from pipeline.api.responses import Response, ResponsesQuery
from pipeline.api.retry import Retry
from pipeline.api.unicode import OddText, is_sendable
from pipeline.api.usage import UsagePage, UsageQuery, get_usage
from pipeline.api.usage_walk import PageSize
from pipeline.api.walks import (
    conversation_walk,
    item_walk,
    meter_pages,
    response_walk,
    usage_of_days,
    usage_pages,
)
from pipeline.endpoints import CONVERSATIONS, METERED, Endpoint

__all__ = [
    "CONVERSATIONS",
    "METERED",
    "AnswerTooBig",
    "ApiError",
    "BucketTooBig",
    "Client",
    "Clock",
    "Conversation",
    "ConversationsQuery",
    "CostRow",
    "Costs",
    "CostsQuery",
    "Endpoint",
    "InvalidQuery",
    "Item",
    "ItemsQuery",
    "Limits",
    "MalformedBody",
    "MeterBucket",
    "MeterPage",
    "MeterRow",
    "OddText",
    "OutcomeUnknown",
    "PageSize",
    "PagingError",
    "QuotaExhausted",
    "Refused",
    "Response",
    "ResponsesQuery",
    "Retry",
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
    "get_costs",
    "get_items",
    "get_meters",
    "get_usage",
    "is_sendable",
    "item_walk",
    "meter_pages",
    "quota_of",
    "response_walk",
    "route_to",
    "usage_of_days",
    "usage_pages",
]
