"""The published client reads all endpoints, and finds what the world holds."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from meetkai_mka1 import SDK, models

from pipeline.emulator import START_2024, Conversation, EmulatorServer, World
from pipeline.emulator.billing import COST_GROUPS
from pipeline.emulator.endpoints import ENDPOINTS
from pipeline.emulator.prices import CHAT_MODELS

DAY = 86_400
BOTH: list[models.ConversationsGroupBy] = ["user_id", "api_key_id"]


@pytest.fixture
def sdk(serve: Callable[..., EmulatorServer], traffic: World) -> Iterator[SDK]:
    server = serve(traffic)
    with SDK(bearer_auth=server.api_key, server_url=server.base_url) as client:
        yield client


def busiest(world: World) -> Conversation:
    """The conversation with most items among those of a plain user and the first key."""
    mine = [
        conversation
        for conversation in world.all_conversations()
        if conversation.owner[0] == "key_web" and (conversation.owner[1] or "").startswith("user")
    ]
    return max(mine, key=lambda conversation: len(conversation.items))


def test_it_reads_usage(sdk: SDK, traffic: World) -> None:
    page = sdk.llm.usage.conversations(
        start_time=START_2024,
        end_time=START_2024 + DAY,
        bucket_width="1h",
        limit=1_440,
        group_by=BOTH,
    )
    truth = traffic.usage(START_2024, START_2024 + DAY, "1h", BOTH)
    assert [bucket.model_dump() for bucket in page.data] == truth
    assert (page.has_more, page.next_page) == (False, None)


@pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if name != "conversations"])
def test_it_reads_every_other_usage_endpoint(sdk: SDK, traffic: World, endpoint: str) -> None:
    dimensions = list(ENDPOINTS[endpoint].dimensions)
    ask = getattr(sdk.llm.usage, endpoint)
    window = {"start_time": START_2024, "end_time": START_2024 + 2 * DAY, "bucket_width": "1h"}
    page = ask(**window, limit=1_440, group_by=dimensions)
    truth = traffic.meters(endpoint, START_2024, START_2024 + 2 * DAY, "1h", dimensions)
    assert [bucket.model_dump() for bucket in page.data] == truth
    assert any(bucket["results"] for bucket in truth)
    if "model" in dimensions:
        model = CHAT_MODELS[1]
        page = ask(**window, limit=1_440, models=[model])
        truth = traffic.meters(endpoint, START_2024, START_2024 + 2 * DAY, "1h", (), models=[model])
        assert [bucket.model_dump() for bucket in page.data] == truth


def test_it_filters_responses_by_background(sdk: SDK, traffic: World) -> None:
    found = [
        sdk.llm.usage.responses(
            start_time=START_2024, end_time=START_2024 + 2 * DAY, background=background
        ).data
        for background in (False, True)
    ]
    for background, data in zip((False, True), found, strict=True):
        truth = traffic.meters("responses", START_2024, START_2024 + 2 * DAY, background=background)
        assert [bucket.model_dump() for bucket in data] == truth
    assert found[0] != found[1]


@pytest.mark.parametrize("group_by", [[], ["model"], list(COST_GROUPS)], ids=str)
def test_it_reads_costs(sdk: SDK, traffic: World, group_by: list[Any]) -> None:
    found = sdk.llm.usage.costs(start_time=START_2024, end_time=START_2024 + DAY, group_by=group_by)
    assert found.model_dump() == traffic.costs(START_2024, START_2024 + DAY, group_by)
    assert found.data


def test_it_pages_usage_by_cursor_and_filters_by_user(sdk: SDK, traffic: World) -> None:
    users = sorted({event.user_id for event in traffic.events() if event.user_id})[:3]
    found: list[models.GetConversationsUsageData] = []
    page = None
    while page is None or page.has_more:
        page = sdk.llm.usage.conversations(
            start_time=START_2024,
            end_time=START_2024 + 2 * DAY,
            bucket_width="1h",
            limit=7,
            user_ids=users,
            page=page.next_page if page else None,
        )
        found += page.data
    truth = traffic.usage(START_2024, START_2024 + 2 * DAY, "1h", (), users)
    assert [bucket.model_dump() for bucket in found] == truth


def test_it_reads_conversations_of_a_user(sdk: SDK, traffic: World) -> None:
    key, user = busiest(traffic).owner
    page = sdk.llm.conversations.list(x_on_behalf_of=user, limit=50)
    there = traffic.conversations_of((key, user))
    assert [(c.id, c.created_at, c.metadata, c.deleted_at) for c in page.data] == [
        (c.id, c.created_at, c.metadata, c.deleted_at) for c in there[:50]
    ]
    assert page.has_more == (len(there) > 50)
    assert page.last_id == page.data[-1].id


def test_it_finds_conversations_by_metadata(sdk: SDK, traffic: World) -> None:
    user = busiest(traffic).owner[1]
    # As JSON text: given a mapping, the client sends each pair as a parameter of its own.
    page = sdk.llm.conversations.list(x_on_behalf_of=user, metadata='{"topic":"refund"}', limit=50)
    assert page.data
    assert all(c.metadata and c.metadata["topic"] == "refund" for c in page.data)


def test_it_reads_items(sdk: SDK, traffic: World) -> None:
    conversation = busiest(traffic)
    page = sdk.llm.conversations.list_items(
        conversation_id=conversation.id, x_on_behalf_of=conversation.owner[1], limit=100
    )
    assert [(item.id, item.type, item.response_id) for item in page.data] == [
        (item.id, item.body["type"], item.response_id) for item in conversation.items
    ]


def test_it_understands_every_item_in_the_world(sdk: SDK, traffic: World) -> None:
    for conversation in traffic.all_conversations():
        if conversation.owner[0] != "key_web" or not (conversation.owner[1] or "").isascii():
            continue
        page = sdk.llm.conversations.list_items(
            conversation_id=conversation.id, x_on_behalf_of=conversation.owner[1], limit=100
        )
        assert [item.id for item in page.data] == [item.id for item in conversation.items]


def test_it_adds_items(serve: Callable[..., EmulatorServer]) -> None:
    world = World()
    name = world.create_conversation(None, "u", "key_web")
    server = serve(world)
    with SDK(bearer_auth=server.api_key, server_url=server.base_url) as client:
        answer = client.llm.conversations.create_items(
            conversation_id=name,
            x_on_behalf_of="u",
            items=[{"type": "message", "role": "user", "content": text} for text in ("a", "b")],
        )
    conversation = world.conversation(name)
    assert conversation is not None
    assert [item.id for item in answer.data] == [item.id for item in conversation.items]
    assert [item.body["content"] for item in conversation.items] == ["a", "b"]
    now = int(world.clock())
    rows = [row for b in world.usage(now - DAY, now + 1, "1d", BOTH) for row in b["results"]]
    assert [(r["num_items_added"], r["num_operations"], r["user_id"]) for r in rows] == [
        (2, 2, "u")
    ]


def test_it_reads_responses(sdk: SDK, traffic: World) -> None:
    key, user = busiest(traffic).owner
    page = sdk.llm.responses.list(x_on_behalf_of=user, limit=100, order="asc")
    there = traffic.responses_of((key, user))[:100]
    assert [
        (
            r.id,
            r.created_at,
            r.status,
            r.previous_response_id,
            r.conversation.id if r.conversation else None,
            r.usage.input_tokens,
            r.usage.output_tokens_details.reasoning_tokens,
            len(r.output),
            r.user,
        )
        for r in page.data
    ] == [
        (
            r.id,
            r.created_at,
            r.status,
            r.previous_response_id,
            r.conversation_id,
            r.tokens.input,
            r.tokens.reasoning,
            len(r.output),
            user,
        )
        for r in there
    ]
    assert (page.first_id, page.last_id) == (there[0].id, there[-1].id)


def test_it_reads_an_empty_listing(sdk: SDK) -> None:
    assert sdk.llm.conversations.list(x_on_behalf_of="nobody").data == []
    assert sdk.llm.responses.list(x_on_behalf_of="nobody").data == []
