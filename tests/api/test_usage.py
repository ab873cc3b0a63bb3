"""Every parameter of endpoint 1 arrives as it was meant, and no number of a page is bent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api import InvalidQuery, MalformedBody, ShapeError, UsageQuery
from pipeline.api.usage import Result, decode_page

Ask = Callable[..., Any]
GOOD = {"content": b'{"data": [], "has_more": false, "next_page": null}'}
LARGEST = 2**63 - 1
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def sent_by(ask: Ask, query: UsageQuery) -> list[tuple[str, str]]:
    url = ask(GOOD, query=query).sent[0].url
    return parse_qsl(url.query.decode("ascii"), keep_blank_values=True, strict_parsing=True)


def page_of(*results: str, **fields: str) -> bytes:
    """A page with one bucket, its results given as JSON text."""
    bucket = {"object": '"bucket"', "start_time": "0", "end_time": "60"} | fields
    pairs = "".join(f'"{name}":{value},' for name, value in bucket.items())
    return (
        f'{{"object":"page","data":[{{{pairs}"results":[{",".join(results)}]}}],'
        '"has_more":false,"next_page":null}'
    ).encode("utf-8", "surrogatepass")


def test_every_parameter_is_sent_and_arrays_repeat_their_key(ask: Ask) -> None:
    query = UsageQuery(
        60,
        120,
        "1m",
        limit=7,
        page="c",
        user_ids=["a", "b"],
        group_by=["user_id", "api_key_id", "org_id"],
        external_user_ids=["e", "f"],
        org_ids=["o", "p"],
        all_orgs="true",
    )
    assert sent_by(ask, query) == [
        ("start_time", "60"),
        ("end_time", "120"),
        ("bucket_width", "1m"),
        ("limit", "7"),
        ("page", "c"),
        ("user_ids", "a"),
        ("user_ids", "b"),
        ("group_by", "user_id"),
        ("group_by", "api_key_id"),
        ("group_by", "org_id"),
        ("external_user_ids", "e"),
        ("external_user_ids", "f"),
        ("org_ids", "o"),
        ("org_ids", "p"),
        ("all_orgs", "true"),
    ]


def test_what_is_not_asked_for_is_not_sent_but_the_limit_always_is(ask: Ask) -> None:
    assert sent_by(ask, UsageQuery(0)) == [
        ("start_time", "0"),
        ("bucket_width", "1d"),
        ("limit", "1440"),
    ]


@given(page=IDS, users=st.lists(IDS, max_size=4))
def test_cursors_and_ids_arrive_whatever_signs_they_hold(
    ask: Ask, page: str, users: list[str]
) -> None:
    sent = sent_by(ask, UsageQuery(0, page=page, user_ids=users))
    assert [value for name, value in sent if name == "page"] == [page]
    assert [value for name, value in sent if name == "user_ids"] == users


@pytest.mark.parametrize("value", ["+/=&# %", "%2B", "ключ", "a b", "日本", "😀", "\x00", "a\nb"])
def test_known_traps_of_url_encoding(ask: Ask, value: str) -> None:
    assert ("page", value) in sent_by(ask, UsageQuery(0, page=value))


@pytest.mark.parametrize("user", ["user-1", "ключ", "a b", "日本:😀", "a\u0085b"])
def test_the_end_user_one_acts_for_is_sent_as_a_header(ask: Ask, user: str) -> None:
    request = ask(GOOD, query=UsageQuery(0, on_behalf_of=user)).sent[0]
    raw = dict(request.headers.raw)
    assert raw[b"X-On-Behalf-Of"] == user.encode()
    assert "X-On-Behalf-Of" not in ask(GOOD, query=UsageQuery(0)).sent[0].headers


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("start_time", {"start_time": -1}),
        ("start_time", {"start_time": 253_402_300_800}),
        ("start_time", {"start_time": 1.5}),
        ("start_time", {"start_time": None}),
        ("start_time", {"start_time": "60"}),
        ("end_time", {"end_time": 60}),
        ("end_time", {"end_time": 59}),
        ("end_time", {"end_time": 1e9}),
        ("bucket_width", {"bucket_width": "5m"}),
        ("limit", {"limit": 0}),
        ("limit", {"limit": 1_441}),
        ("limit", {"limit": True}),
        ("limit", {"limit": 10.0}),
        ("group_by", {"group_by": ["model"]}),
        ("group_by", {"group_by": ["user_id", "user_id"]}),
        ("group_by", {"group_by": "user_id"}),
        ("user_ids", {"user_ids": "one-user"}),
        ("user_ids", {"user_ids": ["\ud800"]}),
        ("external_user_ids", {"external_user_ids": "one-user"}),
        ("org_ids", {"org_ids": "one-org"}),
        ("page", {"page": "\udfff"}),
        ("all_orgs", {"all_orgs": "\udfff"}),
        ("on_behalf_of", {"on_behalf_of": ""}),
        ("on_behalf_of", {"on_behalf_of": "\ud800"}),
        ("on_behalf_of", {"on_behalf_of": "a\r\nX-Evil: 1"}),
        ("on_behalf_of", {"on_behalf_of": " a"}),
        ("on_behalf_of", {"on_behalf_of": "a\n"}),
    ],
)
def test_a_question_that_breaks_the_rules_is_refused_by_name(
    name: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidQuery, match=f"^{name} is "):
        UsageQuery(**{"start_time": 60, **fields})


COUNTS = st.none() | st.integers(0, LARGEST)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "object": st.none() | st.just("organization.usage.conversations.result"),
        "user_id": st.none() | IDS,
        "api_key_id": st.none() | IDS,
        "num_conversations_created": COUNTS,
        "num_items_added": COUNTS,
        "num_operations": COUNTS,
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(IDS, inner, max_size=3),
    max_leaves=6,
).filter(lambda value: "Infinity" not in json.dumps(value))
UNKNOWN = st.dictionaries(
    IDS.filter(lambda name: name not in Result.__struct_fields__), JSON, max_size=2
)


@given(
    served=st.lists(st.lists(st.none() | st.tuples(KNOWN, UNKNOWN), max_size=3), max_size=3),
    has_more=st.booleans(),
    next_page=st.none() | IDS,
    ascii_only=st.booleans(),
)
def test_whatever_a_page_holds_is_read_as_it_is(
    served: list[list[tuple[dict[str, Any], dict[str, Any]] | None]],
    has_more: bool,
    next_page: str | None,
    ascii_only: bool,
) -> None:
    data = [
        {
            "object": "bucket",
            "start_time": 60 * place,
            "end_time": 60 * place + 60,
            "results": [None if result is None else result[0] | result[1] for result in results],
        }
        for place, results in enumerate(served)
    ]
    body = {"object": "page", "data": data, "has_more": has_more, "next_page": next_page}
    page = decode_page(json.dumps(body, ensure_ascii=ascii_only).encode())
    there = [[result for result in results if result is not None] for results in served]
    assert (page.has_more, page.next_page) == (has_more, next_page)
    assert [(b.start_time, b.end_time) for b in page.buckets] == [
        (60 * place, 60 * place + 60) for place in range(len(served))
    ]
    assert [b.results for b in page.buckets] == [
        [Result(**known) for known, _ in results] for results in there
    ]
    unknown = [unknown for results in there for _, unknown in results]
    if page.extras is None:
        assert not any(unknown)
    else:
        assert [json.loads(extra) if extra else {} for extra in page.extras] == unknown


@pytest.mark.parametrize("extra", ["", ',"tier":"a"'], ids=["known fields", "unknown fields"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *(("0", 0), ("-0", 0), (str(LARGEST), LARGEST), (str(10**15 + 1), 10**15 + 1)),
        *(("null", None), ("5.0", 5), ("5e0", 5), ("50E-1", 5), ("0.05e+2", 5), ("-0.0", 0)),
        # No double is near enough to these.
        *(
            (f"{LARGEST}.0", LARGEST),
            (f"{2**53 + 1}.000", 2**53 + 1),
            ("9007199254740993e0", 2**53 + 1),
        ),
        *(("0.9223372036854775807e19", LARGEST), ("0e400", 0)),
    ],
)
def test_a_count_is_read_exactly(extra: str, number: str, expected: int | None) -> None:
    page = decode_page(page_of(f'{{"num_operations":{number}{extra}}}'))
    assert page.buckets[0].results == [Result(num_operations=expected)]
    assert type(page.buckets[0].results[0].num_operations) in {int, type(None)}


def test_times_may_be_written_with_a_fraction_of_nothing() -> None:
    (bucket,) = decode_page(page_of("{}", start_time="0.0", end_time="6e1")).buckets
    assert (bucket.start_time, bucket.end_time) == (0, 60)


@pytest.mark.parametrize("extra", ["", ',"tier":"a"'], ids=["known fields", "unknown fields"])
@pytest.mark.parametrize("measure", ["num_conversations_created", "num_items_added"])
@pytest.mark.parametrize(
    "number",
    [
        *("-1", "-1.0", "0.5", "5.5", "5e-1", '"5"', '"5.0"', "true", "[]", "{}", "1" * 40),
        *(str(2**63), f"{2**63}.0", "1e19", "1e400", "-1e400", "1e999999", "1e-999999"),
        *("5.0000000000000000001", "9223372036854775807.5"),
    ],
)
def test_a_count_that_is_no_count_is_refused(extra: str, measure: str, number: str) -> None:
    with pytest.raises(ShapeError, match=measure):
        decode_page(page_of(f'{{"{measure}":{number}{extra}}}'))


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"page"',
        b"{}",
        b'{"data": null}',
        b'{"results": [], "next_page": null}',
        b'{"status": "ok"}',
        b'{"data": [], "has_more": 0}',
        b'{"data": {}, "has_more": false}',
        b'{"data": [{"start_time": 0, "end_time": 60, "results": {}}], "has_more": false}',
        b'{"data": [null], "has_more": false}',
        b'{"data": [], "has_more": false, "next_page": 7}',
        page_of("7"),
        page_of("[]"),
        page_of('{"user_id": 7}'),
        page_of('{"api_key_id": ["k"], "x": 1}'),
        page_of(start_time="0.5"),
        page_of(start_time="null"),
        page_of(end_time='"60"'),
    ],
)
def test_json_that_is_no_page_is_refused_and_not_tried_again(ask: Ask, body: bytes) -> None:
    asked = ask({"content": body})
    assert isinstance(asked.error, ShapeError)
    assert len(asked.sent) == 1
    assert "start_time=0&end_time=3600" in asked.message, "it says what was asked"
    assert body[:20].decode() in asked.message, "and what came back"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"data": [], "has_more": false',
        b'{"data": [], "has_more": false} {}',
        page_of('{"num_operations": NaN}'),
        page_of('{"num_operations": 05}'),
        page_of('{"x": NaN}'),
        page_of('{"x": tru}'),
        page_of('{"user_id": "a', "b"),
    ],
)
def test_what_is_no_json_is_told_apart(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="not whole JSON"):
        decode_page(body)


BUCKET = '{"start_time": 0, "end_time": 60%s}'


@pytest.mark.parametrize(
    ("body", "buckets", "has_more"),
    [
        ('{"object": "page", "data": null, "has_more": false, "next_page": null}', 0, False),
        ('{"object": "page", "has_more": false}', 0, False),
        ('{"data": null, "has_more": false}', 0, False),
        ('{"object": "page"}', 0, None),
        ('{"data": []}', 0, None),
        ('{"data": [], "has_more": null, "error": null}', 0, None),
        ('{"data": [%s], "has_more": false}' % (BUCKET % ""), 1, False),
        ('{"data": [%s], "has_more": true}' % (BUCKET % ', "results": null'), 1, True),
    ],
)
def test_an_empty_list_may_be_null_or_left_out(
    body: str, buckets: int, has_more: bool | None
) -> None:
    page = decode_page(body.encode())
    assert [bucket.results for bucket in page.buckets] == [[]] * buckets
    assert page.has_more is has_more


@pytest.mark.parametrize("results", ["null", None])
def test_a_bucket_without_results_leaves_those_beside_it_as_they_are(results: str | None) -> None:
    empty = BUCKET % ("" if results is None else f', "results": {results}')
    full = BUCKET % ', "results": [{"user_id": "u", "num_operations": 7, "tier": "a"}]'
    page = decode_page(f'{{"data": [{empty}, {full}], "has_more": false}}'.encode())
    assert [bucket.results for bucket in page.buckets] == [
        [],
        [Result(user_id="u", num_operations=7)],
    ]
    assert page.extras == ['{"tier":"a"}']


@given(st.binary(max_size=200))
def test_no_bytes_bring_anything_but_a_page_or_an_error_of_ours(body: bytes) -> None:
    with pytest.raises((MalformedBody, ShapeError)):
        decode_page(body)


@given(cut=st.integers(1, 200))
def test_a_page_cut_anywhere_is_no_page(cut: int) -> None:
    whole = page_of('{"user_id":"u","num_operations":12,"x":[1,{"y":"z"}]}', '{"user_id":null}')
    with pytest.raises(MalformedBody):
        decode_page(whole[: -min(cut, len(whole))])


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[],"has_more":false,"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        page_of('{"deep":' + "[" * 100_000 + "]" * 100_000 + "}"),
        page_of('{"deep":' + '{"a":' * 100_000 + "1" + "}" * 100_001),
    ],
)
def test_a_body_nested_too_deeply_is_refused(body: bytes) -> None:
    with pytest.raises(ShapeError, match="nested too deeply"):
        decode_page(body)


def test_unknown_fields_keep_their_numbers_as_they_were_sent() -> None:
    page = decode_page(page_of('{"cost": 0.10, "big": 12345678901234567890123, "e": 1e400}', "{}"))
    assert page.extras == ['{"big":12345678901234567890123,"cost":0.10,"e":1e400}', None]


def test_a_result_that_is_null_as_a_whole_is_left_out() -> None:
    page = decode_page(page_of("null", '{"user_id":"u"}', "null"))
    assert page.buckets[0].results == [Result(user_id="u")]
    assert page.extras is None


def test_unknown_fields_outside_results_do_no_harm() -> None:
    body = (
        b'{"data": [{"start_time": 0, "end_time": 60, "results": [], "x": 1}], "has_more": false,'
    )
    assert len(decode_page(body + b' "total": 1}').buckets) == 1
