"""Each usage endpoint is asked as the published client asks it, and no number of it is bent."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meetkai_mka1 import models

from pipeline.api import (
    CONVERSATIONS,
    METERED,
    Client,
    Endpoint,
    InvalidQuery,
    MalformedBody,
    MeterBucket,
    MeterPage,
    MeterRow,
    ShapeError,
    UsageQuery,
    get_meters,
    get_usage,
    meter_pages,
)
from pipeline.api.client import Answer
from pipeline.api.meters import decode_meters
from pipeline.api.usage_walk import walk_usage
from tests.api.exchange import exchange
from tests.api.test_usage import IDS, JSON, LARGEST, page_of
from tests.api.usage_model import START, Server

GOOD = {"content": b'{"data":[],"has_more":false}'}
RESPONSES = METERED["responses"]
EVERY = [CONVERSATIONS, *METERED.values()]


def in_the_client(endpoint: Endpoint, what: str) -> Any:
    return getattr(models, what.format(endpoint.name.title().replace("_", "")))


@pytest.mark.parametrize("endpoint", EVERY, ids=lambda endpoint: endpoint.name)
def test_a_row_of_the_table_says_what_the_published_client_says(endpoint: Endpoint) -> None:
    assert endpoint.group_by == get_args(in_the_client(endpoint, "{}GroupBy"))
    asked = in_the_client(endpoint, "Get{}UsageRequest").model_fields
    assert {name for name in ("models", "background") if name in asked} == set(endpoint.filters)
    assert endpoint.path == f"/api/v1/llm/usage/{endpoint.name}"
    assert endpoint.dimensions == tuple(name for name in endpoint.group_by if name != "org_id")


def sent_by(query: UsageQuery) -> tuple[str, list[tuple[str, str]]]:
    _, (request,) = exchange(lambda client: get_meters(client, query), GOOD)
    params = request.url.query.decode("ascii")
    return request.url.path, parse_qsl(params, keep_blank_values=True, strict_parsing=True)


def test_every_parameter_is_sent_to_the_endpoint_that_was_named() -> None:
    query = UsageQuery(
        60,
        120,
        "1m",
        limit=7,
        page="c",
        user_ids=["a"],
        group_by=RESPONSES.group_by,
        external_user_ids=["e"],
        org_ids=["o"],
        all_orgs="true",
        endpoint=RESPONSES,
        models=["m &", "n"],
        background=False,
    )
    assert sent_by(query) == (
        "/gate/api/v1/llm/usage/responses",
        [
            *(("start_time", "60"), ("end_time", "120"), ("bucket_width", "1m"), ("limit", "7")),
            *(("page", "c"), ("user_ids", "a")),
            *(("group_by", name) for name in RESPONSES.group_by),
            *(("external_user_ids", "e"), ("org_ids", "o"), ("models", "m &"), ("models", "n")),
            *(("all_orgs", "true"), ("background", "false")),
        ],
    )


@pytest.mark.parametrize("endpoint", EVERY, ids=lambda endpoint: endpoint.name)
def test_an_endpoint_is_asked_at_its_own_path(endpoint: Endpoint) -> None:
    path, sent = sent_by(UsageQuery(0, endpoint=endpoint))
    assert path == f"/gate{endpoint.path}"
    assert sent == [("start_time", "0"), ("bucket_width", "1d"), ("limit", "1440")]
    query = UsageQuery(0, endpoint=endpoint)
    _, (request,) = exchange(lambda client: get_usage(client, query), GOOD)
    assert request.url.path == path


@pytest.mark.parametrize(
    ("endpoint", "name", "fields"),
    [
        ("conversations", "group_by", {"group_by": ["model"]}),
        ("conversations", "models", {"models": ["m"]}),
        ("completions", "group_by", {"group_by": ["background"]}),
        ("completions", "background", {"background": True}),
        ("vector_stores", "group_by", {"group_by": ["org_id"]}),
        ("files", "models", {"models": ["m"]}),
        ("extract", "group_by", {"group_by": ["model", "model"]}),
        ("responses", "models", {"models": "m"}),
        ("responses", "models", {"models": ["\ud800"]}),
        ("responses", "background", {"background": "true"}),
        ("responses", "background", {"background": 1}),
    ],
)
def test_a_question_that_an_endpoint_does_not_know_is_refused_by_name(
    endpoint: str, name: str, fields: dict[str, Any]
) -> None:
    known = {**METERED, "conversations": CONVERSATIONS}[endpoint]
    with pytest.raises(InvalidQuery, match=f"^{name} is "):
        UsageQuery(**{"start_time": 60, "endpoint": known, **fields})


def test_a_refused_filter_names_the_endpoint() -> None:
    with pytest.raises(InvalidQuery) as caught:
        UsageQuery(0, endpoint=METERED["files"], models=["m"])
    assert str(caught.value) == (
        "models is ['m']: it must be left out: usage/files has no such filter"
    )


def only(body: bytes) -> MeterRow:
    (row,) = decode_meters(body).buckets[0].results
    return row


COLUMNS = ("user_id", "api_key_id", "model")
NAMES = IDS.filter(lambda name: name not in {*COLUMNS, "object"})
NO_MEASURE = JSON.filter(
    lambda value: (
        (type(value) is not int and type(value) is not float)
        or (type(value) is float and not value.is_integer())
    )
)


@given(
    columns=st.fixed_dictionaries(
        {}, optional={name: st.none() | IDS for name in (*COLUMNS, "object")}
    ),
    measures=st.dictionaries(NAMES, st.integers(0, LARGEST), max_size=4),
    others=st.dictionaries(NAMES, NO_MEASURE, max_size=3),
    fraction=st.booleans(),
    ascii_only=st.booleans(),
)
def test_whole_numbers_are_measures_and_all_else_is_kept(
    columns: dict[str, Any],
    measures: dict[str, int],
    others: dict[str, Any],
    fraction: bool,
    ascii_only: bool,
) -> None:
    others = {**others, "x": 0.5} if fraction else others  # whichever way it is read
    measures = {name: value for name, value in measures.items() if name not in others}
    result = json.dumps({**columns, **measures, **others}, ensure_ascii=ascii_only)
    row = only(page_of("null", result))
    assert (row.user_id, row.api_key_id, row.model) == tuple(map(columns.get, COLUMNS))
    assert row.measures == measures
    assert (json.loads(row.extra) if row.extra else {}) == others
    assert (row.extra is None) == (not others)


@pytest.mark.parametrize("beside", ["", ',"x":null', ',"x":0.5'])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *(("0", 0), ("-0", 0), (str(LARGEST), LARGEST), ("5.0", 5), ("5e0", 5), ("50E-1", 5)),
        *((f"{LARGEST}.0", LARGEST), (f"{2**53 + 1}.000", 2**53 + 1), ("-0.0", 0), ("0e400", 0)),
        *(("9007199254740993e0", 2**53 + 1), ("0.9223372036854775807e19", LARGEST)),
    ],
)
def test_a_measure_is_read_exactly(beside: str, number: str, expected: int) -> None:
    row = only(page_of(f'{{"input_tokens":{number}{beside}}}'))
    assert row.measures == {"input_tokens": expected}
    assert type(row.measures["input_tokens"]) is int


@pytest.mark.parametrize("beside", ["", ',"x":0.5'])
@pytest.mark.parametrize(
    "number",
    ["-1", "-1.0", "-1e3", str(2**63), f"{2**63}.0", "1e19", "1e400", "1e999999", "1e9999999"],
)
def test_a_whole_number_that_no_count_can_be_is_refused(beside: str, number: str) -> None:
    with pytest.raises(ShapeError, match="input_tokens"):
        decode_meters(page_of(f'{{"input_tokens":{number}{beside}}}'))


@pytest.mark.parametrize(
    ("result", "extra"),
    [
        ('{"background":true,"n":1}', '{"background":true}'),
        ('{"b":"t","a":null,"n":1}', '{"a":null,"b":"t"}'),
        ('{"z":0.10,"a":"\\u00e9","n":1}', '{"a":"é","z":0.10}'),
        ('{"a":"\\u00e9","n":1}', '{"a":"é"}'),
        ('{"cost":5.5e-1,"n":1}', '{"cost":5.5e-1}'),
        ('{"tiny":1e-9999999,"n":1}', '{"tiny":1e-9999999}'),
        ('{"f":12345678901234567890123.5,"n":1}', '{"f":12345678901234567890123.5}'),
        ('{"by":{"b":2,"a":1},"n":1}', '{"by":{"b":2,"a":1}}'),
        ('{"list":[1,2],"n":1}', '{"list":[1,2]}'),
        ('{"org_id":"o","object":"organization.usage.responses.result","n":1}', '{"org_id":"o"}'),
        ('{"object":"organization.usage.responses.result","n":1}', None),
        ('{"user_id":"u","n":1}', None),
    ],
)
def test_what_is_no_measure_is_kept_as_sorted_json(result: str, extra: str | None) -> None:
    row = only(page_of(result))
    assert row.measures == {"n": 1}
    assert row.extra == extra


@pytest.mark.parametrize("beside", ["", ',"x":0.5'])
@pytest.mark.parametrize("name", [*COLUMNS, "object"])
@pytest.mark.parametrize("value", ["7", "true", "0.5", "[]", '{"a":1}'])
def test_a_column_that_is_no_text_is_refused(beside: str, name: str, value: str) -> None:
    with pytest.raises(ShapeError, match=name):
        decode_meters(page_of(f'{{"{name}":{value}{beside}}}'))


def test_the_later_of_two_fields_of_one_name_counts_as_for_conversations() -> None:
    assert only(page_of('{"n":1,"n":2}')).measures == {"n": 2}
    assert only(page_of('{"n":1,"n":2,"x":0.5}')).measures == {"n": 2}


def test_text_that_is_not_unicode_is_kept_and_noted() -> None:
    noted: list[tuple[str, int]] = []
    body = page_of('{"user_id":"\\ud83d","model":"m","n":1}')
    (bucket,) = decode_meters(body, lambda field, number: noted.append((field, number))).buckets
    assert bucket.results == [MeterRow("\\ud83d", None, "m", {"n": 1})]
    assert noted == [("user_id", 1)]


def test_texts_that_are_not_unicode_are_reported_by_endpoint() -> None:
    query = UsageQuery(0, endpoint=RESPONSES)

    async def call(client: Client) -> list[str]:
        await get_meters(client, query)
        return client.odd_text.sentences()

    (sentence,), _ = exchange(call, {"content": page_of('{"model":"\\ud83d"}')})
    assert sentence.startswith("GET /api/v1/llm/usage/responses: 1 text in model is not Unicode")


@pytest.mark.parametrize(
    ("body", "buckets"),
    [
        (b'{"object": "page"}', []),
        (b'{"data": null, "has_more": false}', []),
        (b'{"data": [{"start_time": 0, "end_time": 6e1}]}', [MeterBucket(0, 60, [])]),
        (page_of("null", start_time="0.0"), [MeterBucket(0, 60, [])]),
        (page_of(), [MeterBucket(0, 60, [])]),
        (page_of("{}"), [MeterBucket(0, 60, [MeterRow(None, None, None, {})])]),
    ],
)
def test_what_is_empty_may_be_null_or_left_out(body: bytes, buckets: list[MeterBucket]) -> None:
    assert decode_meters(body).buckets == buckets


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"{}",
        b'{"data": {}, "has_more": false}',
        b'{"data": [null], "has_more": false}',
        page_of("7"),
        page_of("[]"),
        page_of(start_time="0.5"),
        page_of(end_time='"60"'),
        page_of('{"deep":' + "[" * 100_000 + "]" * 100_000 + "}"),
    ],
)
def test_json_that_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(ShapeError):
        decode_meters(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", page_of('{"n": NaN}'), page_of('{"n": 05}'), b'{"error": "later"}'],
)
def test_what_is_no_json_or_an_error_is_told_apart(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_meters(body)


@given(st.binary(max_size=200))
def test_no_bytes_bring_anything_but_a_page_or_an_error_of_ours(body: bytes) -> None:
    with pytest.raises((MalformedBody, ShapeError)):
        decode_meters(body)


def test_a_walk_over_meters_follows_cursors_and_checks_as_that_over_conversations() -> None:
    """The walk itself is tested in test_usage_walk; it knows no endpoint."""
    server = Server([1, 2, 3, 4, 5], clamp=2)

    async def fetch(query: UsageQuery) -> Answer[MeterPage]:
        answer = await server.fetch(query)
        buckets = [
            MeterBucket(b.start_time, b.end_time, [MeterRow("u", None, "m", {"n": 1})])
            for b in answer.value.buckets
        ]
        page = MeterPage(buckets, answer.value.has_more, answer.value.next_page)
        return Answer(page, answer.size, answer.seconds)

    async def run() -> list[int]:
        pages = walk_usage(fetch, server.query)
        return [bucket.start_time async for page in pages for bucket in page.buckets]

    assert asyncio.run(run()) == [START + 60 * place for place in range(5)]
    assert len(server.requests) == 3


def day_of(start: int, number: int) -> dict[str, bytes]:
    result = f'{{"user_id":"u","api_key_id":"k","model":"m","n":{number}}}'
    return {"content": page_of(result, start_time=str(start), end_time=str(start + 86_400))}


@pytest.mark.parametrize("endpoint", METERED.values(), ids=lambda endpoint: endpoint.name)
def test_days_of_an_endpoint_are_asked_for_by_all_its_dimensions(endpoint: Endpoint) -> None:
    query = UsageQuery(START, START + 86_400, "1d", group_by=endpoint.dimensions, endpoint=endpoint)

    async def call(client: Client) -> list[MeterBucket]:
        return [it async for page in meter_pages(client, query) for it in page.buckets]

    found, sent = exchange(call, day_of(START, 1))
    assert [(bucket.start_time, bucket.results[0].measures) for bucket in found] == [
        (START, {"n": 1})
    ]
    for request in sent:
        assert request.url.path == f"/gate{endpoint.path}"
        assert request.url.params["bucket_width"] == "1d"
        assert tuple(request.url.params.get_list("group_by")) == endpoint.dimensions


def test_pages_of_an_endpoint_are_those_of_its_window() -> None:
    query = UsageQuery(START, START + 86_400, endpoint=RESPONSES)

    async def call(client: Client) -> list[MeterPage]:
        return [page async for page in meter_pages(client, query)]

    (page,), (request,) = exchange(call, day_of(START, 1))
    assert page.buckets == [MeterBucket(START, START + 86_400, [MeterRow("u", "k", "m", {"n": 1})])]
    assert request.url.path == f"/gate{RESPONSES.path}"
