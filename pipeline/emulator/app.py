"""The endpoints as a Starlette app: routes, who asks, and JSON in and out."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.emulator import endpoints, listings
from pipeline.emulator.billing import costs_answer
from pipeline.emulator.faults import FaultPlan
from pipeline.emulator.queries import ApiError
from pipeline.emulator.state import Owner
from pipeline.emulator.usage_pages import parse_usage_query, usage_page
from pipeline.emulator.world import World

PREFIX = "/api/v1/llm"
LATE_BY = "emulator.late_by"
"""A key of the ASGI scope: the seconds after which a POST is done; none means at once."""
# Ids may hold slashes, which are %2F in the address but / by the time that routes are matched.
ITEMS_PATH = PREFIX + "/conversations/{conversation_id:path}/items"
Endpoint = Callable[[Request], Awaitable[Response]]
Listing = Callable[[World, Owner, bytes, FaultPlan], object]


def build_app(
    world: World, plan: Callable[[], FaultPlan], secrets: Callable[[], Mapping[str, str]]
) -> Starlette:
    """The app over `world`. `secrets` maps API key ids to their bearer secrets."""

    def owner(request: Request) -> Owner:
        return _key_id(request, secrets()), _on_behalf_of(request, world)

    def usage(one: endpoints.Endpoint) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            owner(request)  # any key of the organisation sees all of its usage
            query = parse_usage_query(_query(request), world.clock(), one)
            return _json(usage_page(world, query, plan()))

        return endpoint

    async def costs(request: Request) -> Response:
        owner(request)
        return _json(costs_answer(world, _query(request)))

    def listing(rows: Listing) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return _json(rows(world, owner(request), _query(request), plan()))

        return endpoint

    async def items(request: Request) -> Response:
        name = request.path_params["conversation_id"]
        return _json(listings.list_items(world, owner(request), name, _query(request), plan()))

    async def create_items(request: Request) -> Response:
        name, body = request.path_params["conversation_id"], await request.body()
        asking, late_by = owner(request), request.scope.get(LATE_BY, 0.0)
        query, now_plan = _query(request), plan()
        return _json(
            listings.create_items(world, asking, name, query, body, now_plan, late_by=late_by)
        )

    return Starlette(
        routes=[
            *(
                Route(f"{PREFIX}/usage/{name}", usage(one))
                for name, one in endpoints.ENDPOINTS.items()
            ),
            Route(f"{PREFIX}/usage/costs", costs),
            Route(f"{PREFIX}/conversations", listing(listings.list_conversations)),
            Route(ITEMS_PATH, items),
            Route(ITEMS_PATH, create_items, methods=["POST"]),
            Route(f"{PREFIX}/responses", listing(listings.list_responses)),
        ],
        exception_handlers={HTTPException: _refusal},
    )


def _query(request: Request) -> bytes:
    query: bytes = request.scope["query_string"]
    return query


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def _refusal(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _json({"error": error.detail}, error.status_code)


def _key_id(request: Request, secrets: Mapping[str, str]) -> str:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    for key_id, expected in secrets.items():
        if scheme.lower() == "bearer" and secret == expected:
            return key_id
    raise ApiError(401, "Missing or invalid API key")


def _on_behalf_of(request: Request, world: World) -> str | None:
    """The user of `X-On-Behalf-Of`: as sent, or percent-decoded where that is the user known here.

    The header's bytes are read as UTF-8 where they are that, else as Latin-1.
    """
    sent = request.headers.get("x-on-behalf-of")
    if sent is None:
        return None
    try:
        user = sent.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        user = sent
    if world.knows_user(user):
        return user
    decoded = unquote(user)
    return decoded if world.knows_user(decoded) else user
