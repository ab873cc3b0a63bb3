"""Costs are asked for as the published client asks, and money is read to the last unit or not."""

from __future__ import annotations

import json
from typing import Any, get_args
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meetkai_mka1 import models

from pipeline.api import (
    Client,
    CostRow,
    Costs,
    CostsQuery,
    InvalidQuery,
    MalformedBody,
    ShapeError,
    get_costs,
)
from pipeline.api.costs import COST_GROUPS, CostGroup, decode_costs
from tests.api.exchange import exchange
from tests.api.test_usage import IDS

DAY = 86_400
QUERY = CostsQuery(0, DAY, ("model", "api_key_id"))
LARGEST = 2**63 - 1


def row(**fields: Any) -> dict[str, Any]:
    groups: dict[str, Any] = dict.fromkeys(COST_GROUPS)
    return {**groups, "cost": 0.5, "cost_nano": "500000000", **fields}


def costs(*rows: dict[str, Any], **fields: Any) -> bytes:
    body = {
        "object": "usage.costs",
        "currency": "usd",
        "start_time": 0,
        "end_time": DAY,
        "group_by": ["model", "api_key_id"],
        "data": list(rows),
        "total_cost": 0.5,
        "total_cost_nano": "500000000",
    }
    return json.dumps({**body, **fields}).encode()


def test_the_groups_are_those_of_the_published_client() -> None:
    literal, _ = get_args(models.CostsUsageGroupBy)
    assert get_args(literal) == COST_GROUPS


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (CostsQuery(0, DAY), [("start_time", "0"), ("end_time", "86400")]),
        (
            CostsQuery(0, DAY, COST_GROUPS, "org &"),
            [
                ("start_time", "0"),
                ("end_time", "86400"),
                ("org_id", "org &"),
                *(("group_by", group) for group in COST_GROUPS),
            ],
        ),
    ],
)
def test_every_parameter_is_sent_and_groups_repeat_their_key(
    query: CostsQuery, params: list[tuple[str, str]]
) -> None:
    _, (request,) = exchange(
        lambda client: get_costs(client, query), {"content": costs(group_by=list(COST_GROUPS))}
    )
    assert request.url.path == "/gate/api/v1/llm/usage/costs"
    sent = request.url.query.decode("ascii")
    assert parse_qsl(sent, keep_blank_values=True, strict_parsing=True) == params


def test_the_end_user_is_named_in_a_header() -> None:
    query = CostsQuery(0, DAY, on_behalf_of="ключ")
    _, (request,) = exchange(lambda client: get_costs(client, query), {"content": costs()})
    assert dict(request.headers.raw)[b"X-On-Behalf-Of"] == "ключ".encode()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("start_time", {"start_time": -1}),
        ("start_time", {"start_time": 1.5}),
        ("end_time", {"end_time": 0}),
        ("end_time", {"end_time": None}),
        ("end_time", {"end_time": 253_402_300_800}),
        ("group_by", {"group_by": ["user_id"]}),
        ("group_by", {"group_by": ["model", "model"]}),
        ("group_by", {"group_by": "model"}),
        ("org_id", {"org_id": ""}),
        ("org_id", {"org_id": "\ud800"}),
        ("on_behalf_of", {"on_behalf_of": ""}),
    ],
)
def test_a_question_that_breaks_the_rules_is_refused_by_name(
    name: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidQuery, match=f"^{name} is "):
        CostsQuery(**{"start_time": 0, "end_time": DAY, **fields})


def test_costs_are_read_as_they_are() -> None:
    body = costs(
        row(model="m", api_key_id="k", cost_nano="12300000", new_field=[1]),
        row(team_id="t", external_user_id="u", org_id="o", cost_nano="0"),
        total_cost_nano="12300000",
        new_field={},
    )
    assert decode_costs(body, QUERY) == Costs(
        "usd",
        0,
        DAY,
        [
            CostRow("m", "k", None, None, None, 12_300_000),
            CostRow(None, None, "t", "u", "o", 0),
        ],
        12_300_000,
    )


@given(
    numbers=st.lists(st.integers(-(2**63), LARGEST), max_size=4),
    total=st.integers(-(2**63), LARGEST),
    ids=st.lists(st.none() | IDS, min_size=5, max_size=5),
    currency=st.none() | IDS,
)
def test_money_is_read_to_the_last_unit(
    numbers: list[int], total: int, ids: list[str | None], currency: str | None
) -> None:
    groups = dict(zip(COST_GROUPS, ids, strict=True))
    rows = [row(**groups, cost_nano=str(number), cost=number / 1e9) for number in numbers]
    found = decode_costs(costs(*rows, currency=currency, total_cost_nano=str(total)), QUERY)
    assert [one.cost_nano for one in found.rows] == numbers
    assert all(getattr(one, name) == groups[name] for one in found.rows for name in COST_GROUPS)
    assert (found.total_nano, found.currency) == (total, currency)


@pytest.mark.parametrize("cost", [None, "much", 1e300, -0.0])
def test_the_number_for_display_is_not_read(cost: Any) -> None:
    assert (
        decode_costs(costs(row(cost=cost), total_cost=cost), QUERY).rows[0].cost_nano == 5 * 10**8
    )


@pytest.mark.parametrize("place", ["cost_nano", "total_cost_nano"])
@pytest.mark.parametrize(
    "value",
    [
        *("12.5", "12.0", "1e3", "", " 5", "5\n", "+5", "--5", "007", "0x1F", "1_000", "5 usd"),
        *("٥", "NaN", str(2**63), str(-(2**63) - 1), "1" * 5_000, 5, 5.0, 12.5, None, True, ["5"]),
    ],
)
def test_money_that_is_not_whole_billionths_as_text_is_refused(place: str, value: Any) -> None:
    body = costs(row(cost_nano=value)) if place == "cost_nano" else costs(total_cost_nano=value)
    with pytest.raises(ShapeError, match=place):
        decode_costs(body, QUERY)


def test_a_refusal_of_money_says_what_is_expected_and_where() -> None:
    with pytest.raises(ShapeError) as caught:
        decode_costs(costs(row(), row(cost_nano="12.5")), QUERY)
    assert str(caught.value) == (
        "JSON that is not costs (Expected the digits of a whole number of billionths, from -2^63 "
        "to 2^63-1, which is not rounded - at `data[1].cost_nano`)"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"start_time": 60}, r"they are of \[60, 86400\), asked for was \[0, 86400\)"),
        ({"end_time": 2 * DAY}, r"they are of \[0, 172800\)"),
        ({"start_time": None}, "start_time"),
        ({"end_time": "86400"}, "end_time"),
        ({"end_time": 86400.5}, "end_time"),
        ({"group_by": ["model"]}, "not grouped by api_key_id"),
        ({"group_by": []}, "not grouped by model"),
        ({"data": {}}, "data"),
        ({"data": [7]}, "data"),
        ({"data": None}, "data"),
        ({"currency": 7}, "currency"),
    ],
)
def test_costs_that_are_not_those_asked_for_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        decode_costs(costs(**fields), QUERY)


@pytest.mark.parametrize(
    "fields",
    [{"start_time": 0.0}, {"end_time": 86_400.0}, {"group_by": None}, {"currency": None}],
)
def test_what_the_contract_leaves_open_is_taken(fields: dict[str, Any]) -> None:
    found = decode_costs(costs(row(), **fields), QUERY)
    assert (found.start_time, found.end_time, len(found.rows)) == (0, DAY, 1)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", costs()[:-1], b'{"error": "later"}', b'{"message": "no"}']
)
def test_what_is_no_json_or_an_error_is_told_apart(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_costs(body, QUERY)


@given(st.binary(max_size=200))
def test_no_bytes_bring_anything_but_costs_or_an_error_of_ours(body: bytes) -> None:
    with pytest.raises((MalformedBody, ShapeError)):
        decode_costs(body, QUERY)


def test_a_user_id_that_is_not_unicode_is_noted_by_field() -> None:
    groups: tuple[CostGroup, ...] = ("external_user_id",)
    query = CostsQuery(0, DAY, groups)
    body = costs(row(external_user_id="\ud83d"), group_by=list(groups))

    async def call(client: Client) -> list[str]:
        assert (await get_costs(client, query)).value.rows[0].external_user_id == "\\ud83d"
        return client.odd_text.sentences()

    (sentence,), _ = exchange(call, {"content": body})
    assert sentence.startswith("GET /api/v1/llm/usage/costs: 1 text in external_user_id")
