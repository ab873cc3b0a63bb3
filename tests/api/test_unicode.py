r"""Text that is not Unicode comes through: once, told apart from all other text, and told of.

Half a surrogate pair in JSON is an escape such as `\ud83d` without its other half; bytes that are
not UTF-8 are the same kind of thing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import (
    Client,
    ConversationsQuery,
    InvalidQuery,
    ItemsQuery,
    MalformedBody,
    OddText,
    ResponsesQuery,
    ShapeError,
    UsageQuery,
    get_conversations,
    get_items,
    get_usage,
    is_sendable,
)
from pipeline.api.conversations import decode_conversations
from pipeline.api.items import decode_items
from pipeline.api.responses import decode_responses
from pipeline.api.unicode import as_sent
from pipeline.api.usage import decode_page
from pipeline.pseudonyms import Pseudonyms
from tests.api.exchange import exchange

Ask = Callable[..., Any]

ALPHABET = st.sampled_from([*"\\ud83dx{f}08aU", "\ud83d", "\ude00", "\udcff", "é", "😀"])
TEXT = st.text(ALPHABET | st.characters(), max_size=14)


def usage_of(*users: bytes) -> bytes:
    """A page with a row for each user, the user as JSON has it."""
    rows = b",".join(b'{"user_id":%b,"num_operations":1}' % user for user in users)
    return b'{"data":[{"start_time":0,"end_time":60,"results":[%b]}],"has_more":false}' % rows


def users_of(body: bytes) -> list[str | None]:
    """The users of a page, as they are written."""
    return [row.user_id for row in decode_page(body).buckets[0].results]


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        (rb'"user_\ud83d"', r"user_\ud83d"),
        (rb'"user_\uD83D"', r"user_\ud83d"),
        (rb'"user_\ud83e"', r"user_\ud83e"),
        (rb'"\ude00\ud83d"', r"\ude00\ud83d"),
        (rb'"\ud83d\ud83d\ude00\ude00"', "\\ud83d\U0001f600\\ude00"),
        (b'"user_\xed\xa0\xbd"', r"user_\ud83d"),  # the same, in three bytes
        (b'"user_\xff"', r"user_\x{ff}"),
        (b'"user_\xc3"', r"user_\x{c3}"),
        (b'"\xc0\x80\xf5"', r"\x{c0}\x{80}\x{f5}"),
        # Honest text is as it is.
        (rb'"user_\ud83d\ude00"', "user_\U0001f600"),
        ('"user_\U0001f600"'.encode(), "user_\U0001f600"),
        ('"user_\ufffd"'.encode(), "user_\ufffd"),
        (rb'"C:\\users\\x\u005c"', "C:\\users\\x\\"),
        (rb'"\\\\ \\U0001 \\u0041 \\ud7ff \\x{7f}"', "\\\\ \\U0001 \\u0041 \\ud7ff \\x{7f}"),
        # Unless it looks like what is written for text that is not.
        (rb'"user_\\ud83d"', r"user_\\ud83d"),
        (rb'"user_\u005c\u0075\u0064\u0038\u0033\u0064"', r"user_\\ud83d"),
        (rb'"user_\\\\ud83d"', r"user_\\\\ud83d"),
        (rb'"user_\\\ud83d"', r"user_\\\ud83d"),
        (rb'"user_\\x{ff}"', r"user_\\x{ff}"),
    ],
)
def test_an_id_is_written_as_unicode(sent: bytes, written: str) -> None:
    assert users_of(usage_of(sent)) == [written]
    assert users_of(usage_of(b'"before"', sent, b'"behind"')) == ["before", written, "behind"]


@settings(max_examples=1_000)
@given(texts=st.lists(TEXT, min_size=2, max_size=2), escaped=st.booleans())
def test_no_two_ids_become_one_and_each_leads_back(texts: list[str], escaped: bool) -> None:
    if escaped:  # where two halves meet, they are a whole
        texts = [json.loads(json.dumps(text)) for text in texts]
    bodies = [
        json.dumps(text, ensure_ascii=escaped).encode("utf-8", "surrogatepass") for text in texts
    ]
    users = users_of(usage_of(*bodies))
    written = [user for user in users if user is not None]
    assert all(map(is_valid, written))
    assert (written[0] == written[1]) == (texts[0] == texts[1])
    assert [as_sent(user) for user in written] == texts
    names = Pseudonyms(SecretStr("k" * 32))
    assert (names.of(written[0]) == names.of(written[1])) == (texts[0] == texts[1])
    assert [is_sendable(user) for user in written] == [is_valid(text) for text in texts]


def is_valid(text: str) -> bool:
    """Whether a text is Unicode."""
    return text.encode("utf-8", "replace").decode() == text


@given(sent=st.binary(max_size=12), other=st.binary(max_size=12))
def test_no_two_ids_of_any_bytes_become_one(sent: bytes, other: bytes) -> None:
    bodies = [b'"%b"' % bytes(byte for byte in one if byte > 0x7F) for one in (sent, other)]
    first, second = users_of(usage_of(*bodies))
    assert (first == second) == (bodies[0] == bodies[1])


USAGE = '{"data":[{"start_time":0,"end_time":60,"results":[%s]}],"has_more":false}'
LIST = '{"data":[%s],"has_more":false}'
CONVERSATION = LIST % '{"id":"c","created_at":1,?}'
ITEM = LIST % '{"id":"i","role":"user",?}'
RESPONSE = LIST % '{"id":"r!","created_at":1,"status":"s",?}'
CASES: list[tuple[Callable[..., Any], str, str]] = [
    *(
        (decode_page, USAGE % row, field)
        for row, field in (
            ('{"user_id":"u!"}', "user_id"),
            ('{"api_key_id":"k!","model":"m"}', "api_key_id"),
            ('{"model":"m!"}', "model"),
            ('{"user_id":"u","tags":{"a":["b!"]}}', "tags"),
            ('{"tag!":1}', "the name of a field"),
        )
    ),
    *(
        (decode_conversations, CONVERSATION.replace("?", row), field)
        for row, field in (
            ('"metadata":{"mood":"sad!"}', "metadata"),
            ('"metadata":{"mood!":"sad"}', "the name of a field"),
            ('"identity" : "i!"', "identity"),
        )
    ),
    *(
        (decode, ITEM.replace("?", row), field)
        for decode in (decode_items, partial(decode_items, keep_bodies=True))
        for row, field in (
            ('"content":"hi!"', "content"),
            ('"content":[{"type":"text","text":"a"},{"type":"text","text":"hi!"}]', "content"),
            ('"new":"hi!"', "new"),
        )
    ),
    *(
        (decode_responses, RESPONSE.replace("?", row), field)
        for row, field in (('"model":"m"', "id"), ('"conversation":{"id":"c"}', "id"))
    ),
]


@pytest.mark.parametrize(("decode", "body", "field"), CASES)
@pytest.mark.parametrize("odd", [rb"\ud83d", b"\xed\xa0\xbd", b"\xff"])
def test_a_page_is_read_whole_and_the_field_is_told(
    decode: Callable[..., Any], body: str, field: str, odd: bytes
) -> None:
    found: Counter[str] = Counter()

    def note(name: str, count: int) -> None:
        found[name] += count

    decode(body.encode().replace(b"!", odd), note=note)
    # What nobody looks into may hold any bytes.
    assert found in ({field: 1}, {}) if b"new" in body.encode() else found == {field: 1}
    found.clear()
    decode(body.replace("!", "").encode(), note=note)
    assert not found, "there is nothing to tell"


def test_extra_fields_and_metadata_are_json_that_any_reader_takes() -> None:
    page = decode_page((USAGE % r'{"model":"m\ud83d","tier":"\\ud83d"}').encode())
    assert page.extras is not None
    assert json.loads(page.extras[0] or "") == {"model": r"m\ud83d", "tier": r"\\ud83d"}
    body = LIST % r'{"id":"c","created_at":1,"metadata":{"a\udfff":"\ud83d"}}'
    (conversation,) = decode_conversations(body.encode()).rows
    assert json.loads(conversation.metadata or "") == {r"a\udfff": r"\ud83d"}


@pytest.mark.parametrize(
    ("content", "chars"),
    [
        (rb'"\ud83d"', 1),
        (rb'"hi \ud83d\ude00\ud83d"', 5),
        (b'"hi \xff"', 4),
        (rb'"\\ud83d"', 6),
        (rb'[{"type":"t","text":"a\ud83d"},{"type":"t","refusal":"\ude00"},"\ud83d"]', 4),
    ],
)
def test_half_a_pair_counts_as_one_character(content: bytes, chars: int) -> None:
    body = b'{"data":[{"id":"i","content":%b}],"has_more":false}' % content
    for keep_bodies in (False, True):
        (item,) = decode_items(body, keep_bodies=keep_bodies).rows
        assert item.content_chars == chars


@pytest.mark.parametrize("odd", [rb"\ud83d", b"\xed\xa0\xbd", b"\xff"])
def test_it_is_asked_for_once_and_told_by_endpoint_and_field(odd: bytes) -> None:
    body = usage_of(b'"secret_%b"' % odd, b'"honest"', b'"secret_%b"' % odd)
    told: list[list[str]] = []

    async def call(client: Client) -> Any:
        for _ in range(2):
            answer = await get_usage(client, UsageQuery(0, 60, "1m"))
        told.extend([client.odd_text.sentences(), client.odd_text.sentences()])
        return answer

    answer, sent = exchange(call, {"content": body})
    assert len(answer.value.buckets[0].results) == 3
    assert len(sent) == 2, "once for each call"
    (sentence,), nothing = told
    assert sentence.startswith("GET /api/v1/llm/usage/conversations: 4 texts in user_id are not ")
    assert "secret" not in sentence
    assert nothing == []


def test_clients_may_count_together() -> None:
    odd = OddText()
    odd.add("GET /a", "id", 1)
    odd.add("GET /a", "id", 1)
    odd.add("GET /b", "id", 1)
    first, second = odd.sentences()
    assert first.startswith("GET /a: 2 texts in id are not Unicode")
    assert second.startswith("GET /b: 1 text in id is not Unicode")


@pytest.mark.parametrize(
    "body",
    [
        rb'{"data":[],"has_more":false,"next_page":"\ud83d"',
        rb'{"data":[],"has_more":false,"next_page":"\ud83d',
        rb'{"data":[],"has_more":false,"next_page":"\ud83"}',
        rb'{"data":[],"has_more":false,"next_page":"\xd83d"}',
        b'{"data":[],\xff"has_more":false}',
        b'{"data":[],"has_more":false}\xff',
        b'\xed\xa0\xbd{"data":[],"has_more":false}',
        '{"data":[],"has_more":false}'.encode("utf-16"),
    ],
)
def test_a_body_that_is_broken_otherwise_is_broken(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_page(body)


def test_a_page_of_another_shape_is_one_whatever_its_text() -> None:
    with pytest.raises(ShapeError):
        decode_page(rb'{"data":[7],"has_more":false,"next_page":"\ud83d"}')


@pytest.mark.slow
def test_megabytes_that_are_not_unicode_are_not_taken_in() -> None:
    with pytest.raises(ShapeError, match="more text that is not Unicode"):
        decode_page(usage_of(b'"%b"' % (b"\xff" * 4_000_000)))


def test_an_id_goes_out_as_it_came_in() -> None:
    honest = r"user_\\ud83d"  # as it is written of `user_\ud83d`, spelt out
    _, (request,) = exchange(
        lambda client: get_items(client, ItemsQuery(honest, after=honest, on_behalf_of=honest)),
        {"content": b'{"data":[],"has_more":false}'},
    )
    assert b"/conversations/user_%5Cud83d/items?" in request.url.raw_path
    assert request.url.params["after"] == r"user_\ud83d"
    assert request.headers["X-On-Behalf-Of"] == r"user_\ud83d"
    _, (request,) = exchange(
        lambda client: get_usage(client, UsageQuery(0, page=honest, user_ids=[honest])),
        {"content": b'{"data":[],"has_more":false}'},
    )
    assert request.url.params["page"] == request.url.params["user_ids"] == r"user_\ud83d"


@pytest.mark.parametrize("odd", [r"user_\ud83d", r"user_\x{ff}", r"user_\\\ud83d"])
def test_an_id_that_no_request_can_hold_is_refused_before_it_is_sent(odd: str) -> None:
    for query in (
        partial(ConversationsQuery, on_behalf_of=odd),
        partial(ConversationsQuery, after=odd),
        partial(ItemsQuery, odd),
        partial(ItemsQuery, "c", after=odd),
        partial(ResponsesQuery, before=odd),
        partial(UsageQuery, 0, page=odd),
        partial(UsageQuery, 0, user_ids=[odd]),
    ):
        with pytest.raises(InvalidQuery):
            query()


def test_text_that_a_person_types_is_not_taken_for_an_id() -> None:
    _, (request,) = exchange(
        lambda client: get_conversations(client, ConversationsQuery(search=r"\ud83d")),
        {"content": b'{"data":[],"has_more":false}'},
    )
    assert request.url.params["search"] == r"\ud83d"
