"""No bytes bring anything but a page or a documented error out of any endpoint's decoder."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from random import Random
from typing import Any, Final

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api import CostsQuery, MalformedBody, ShapeError
from pipeline.api.conversations import decode_conversations
from pipeline.api.costs import decode_costs
from pipeline.api.items import decode_items
from pipeline.api.meters import decode_meters
from pipeline.api.responses import decode_responses
from pipeline.api.usage import decode_page
from pipeline.emulator import START_2024, Faults, synthetic_world
from pipeline.emulator.app import PREFIX, build_app
from pipeline.emulator.faults import FaultPlan
from tests.torture.conftest import Figures
from tests.torture.tampering import ALL, tampered

COSTS: Final = CostsQuery(START_2024, START_2024 + 6 * 3_600, ("model",))
DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "usage": decode_page,
    "meters": decode_meters,
    "costs": partial(decode_costs, query=COSTS),
    "conversations": decode_conversations,
    "items": decode_items,
    "items with their bodies": partial(decode_items, keep_bodies=True),
    "responses": decode_responses,
}
NAMES: Final = (
    *("data", "has_more", "next_page", "last_id", "first_id", "object", "start_time", "end_time"),
    *("results", "user_id", "api_key_id", "num_conversations_created", "num_items_added"),
    *("num_operations", "id", "created_at", "deleted_at", "identity", "metadata", "type", "role"),
    *("response_id", "content", "text", "transcript", "refusal", "status", "model", "usage"),
    *("conversation", "input_tokens", "input_tokens_details", "cached_tokens", "output_tokens"),
    *("output_tokens_details", "reasoning_tokens", "total_tokens"),
)
JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400])
    | st.floats()
    | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=25,
)
RIGHT: Final = {
    "id": st.text(min_size=1, max_size=4),
    "created_at": st.integers(0, 2**31) | st.floats(0, 2**31),
    "status": st.sampled_from(["completed", "queued", "new"]),
    "start_time": st.just(0),
    "end_time": st.just(60),
    "results": st.lists(st.dictionaries(st.sampled_from(NAMES), JSON), max_size=2),
}
ROW: Final = st.fixed_dictionaries(
    RIGHT, optional={name: JSON for name in NAMES if name not in RIGHT}
)
"""As any endpoint may have it; what is optional is of any shape."""
PAGE: Final = st.fixed_dictionaries(
    {"data": st.lists(ROW, max_size=2), "has_more": st.booleans()},
    optional=dict.fromkeys(("next_page", "last_id", "first_id", "object"), JSON),
)


@cache
def bodies() -> dict[str, bytes]:
    """A page of each endpoint, as the emulator serves it."""
    world = synthetic_world(days=1, users=10)
    owner = next(one for one in world.all_conversations() if len(one.items) > 5).owner
    plan = FaultPlan(Faults())
    app = build_app(world, lambda: plan, lambda: {owner[0] or "key_web": "secret"})
    headers = {"Authorization": "Bearer secret"}
    if owner[1] is not None:
        headers["X-On-Behalf-Of"] = owner[1]

    async def served() -> dict[str, bytes]:
        async with httpx.AsyncClient(
            base_url=f"http://api.example{PREFIX}",
            headers=headers,
            transport=httpx.ASGITransport(app),
        ) as http:

            async def body(path: str, **params: Any) -> bytes:
                answer = await http.get(path, params=params)
                assert answer.status_code == 200, answer.text
                return answer.content

            window = {"start_time": COSTS.start_time, "end_time": COSTS.end_time}
            listed = await body("/conversations", limit=5)
            usage = await body("/usage/conversations", bucket_width="1h", **window)
            groups = {"group_by": ["user_id", "api_key_id", "model", "background"]}
            meters = await body("/usage/responses", bucket_width="1h", **window, **groups)
            costs = await body("/usage/costs", **window, group_by=["model", "external_user_id"])
            items = await body(f"/conversations/{json.loads(listed)['data'][0]['id']}/items")
            return {
                "usage": usage,
                "meters": meters,
                "costs": costs,
                "conversations": listed,
                "items": items,
                "items with their bodies": items,
                "responses": await body("/responses", limit=5),
            }

    return asyncio.run(served())


def decoded(decoder: Callable[[bytes], Any], body: bytes) -> str:
    """Whether a body is a page; any error but the two of the contract is raised."""
    try:
        decoder(body)
    except (MalformedBody, ShapeError):
        return "refused"
    return "taken"


@pytest.mark.parametrize("name", DECODERS)
def test_changed_pages_are_decoded_or_refused(name: str, long: bool, figures: Figures) -> None:
    tally: Counter[str] = Counter()
    body = bodies()[name]
    assert decoded(DECODERS[name], body) == "taken"
    for number in range(10_000 if long else 500):
        change = ALL[number % len(ALL)]
        changed = tampered(change, Random(f"{name} {number}"), body).plain() or b""
        try:
            tally.update({"cases": 1, decoded(DECODERS[name], changed): 1})
        except Exception as error:
            error.add_note(f"{change}, with Random('{name} {number}')")
            raise
    columns = ("cases", "taken", "refused")
    figures(f"changed pages, {name}", **{column: tally[column] for column in columns})
    assert tally["taken"]
    assert tally["refused"]


@pytest.mark.parametrize("name", DECODERS)
def test_json_of_any_shape_and_bytes_of_any_kind_are_decoded_or_refused(
    name: str, long: bool, figures: Figures
) -> None:
    tally: Counter[str] = Counter()

    @settings(max_examples=5_000 if long else 100, derandomize=True, database=None)
    @given(st.one_of(PAGE, PAGE, JSON, st.binary()))
    def check(served: Any) -> None:
        body = served
        if not isinstance(served, bytes):
            body = json.dumps(served, ensure_ascii=False).encode("utf-8", "surrogatepass")
        tally.update({"cases": 1, decoded(DECODERS[name], body): 1})

    check()
    columns = ("cases", "taken", "refused")
    figures(f"bodies of any shape, {name}", **{column: tally[column] for column in columns})
