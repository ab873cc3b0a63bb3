"""Requests that are not plain questions: refused as the API refuses them, and never with a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from pipeline.api.usage import PATH
from pipeline.emulator import EmulatorServer, ManualClock, World
from pipeline.lake.store import Lake
from pipeline.query.buckets import PageQuery, answer
from pipeline.serve.app import LONGEST_QUERY
from pipeline.timeline import ANY_WIDTHS, DAY, AnyWidth, day_of
from tests.serve.asking import END, KEYS, START, USERS, ask, client, serving
from tests.truth import load

WINDOW = f"start_time={START}&end_time={END}"


@pytest.fixture(scope="module")
def api(traffic: World) -> Iterator[httpx.Client]:
    """A client of the API's stand-in."""
    with EmulatorServer(traffic) as server, client(server.base_url, server.api_key) as asking:
        yield asking


@pytest.fixture(scope="module")
def locked(home: Path) -> Iterator[httpx.Client]:
    """A client without a key, of a server that asks for one."""
    with serving(home, keys=KEYS) as server, client(server.url) as asking:
        yield asking


def error_of(answer: httpx.Response) -> str:
    """What is wrong, from an answer in the API's shape of errors."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    error: str = body["error"]
    assert "\n" not in error
    assert len(error) <= 500
    return error


# What the API refuses

BAD = [
    ("", "start_time is required"),
    ("start_time=", "start_time must be an integer"),
    ("start_time=x", "start_time must be an integer, not 'x'"),
    ("start_time=1.5", "start_time must be an integer"),
    ("start_time=1e9", "start_time must be an integer"),
    ("start_time=٣", "start_time must be an integer"),
    ("start_time=1234567890123456", "start_time must be an integer"),
    (f"start_time={START}&end_time={START}", "end_time is .*: it must be after start_time"),
    (f"start_time={START}&end_time=1", "end_time is 1: it must be after start_time"),
    (f"start_time={START}&start_time={START}", "start_time is given twice"),
    (f"{WINDOW}&limit=1&limit=1", "limit is given twice"),
    (f"{WINDOW}&limit=0", "limit is 0: it must be from 1 to 1440"),
    (f"{WINDOW}&limit=-1", "limit is -1"),
    (f"{WINDOW}&limit=1441", "limit is 1441"),
    (f"{WINDOW}&limit=", "limit must be an integer"),
    (f"{WINDOW}&bucket_width=2h", "bucket_width is '2h': it must be one of 1m, "),
    (f"{WINDOW}&bucket_width=", "bucket_width is ''"),
    (f"{WINDOW}&group_by=model", "group_by"),
    (f"{WINDOW}&group_by=user_id,api_key_id", "group_by"),
    (f"{WINDOW}&page=", "page '' is not a cursor"),
    (f"{WINDOW}&page=x", "page 'x' is not a cursor"),
    (f"{WINDOW}&page={'A' * 10_000}", "page 'AAA"),
    (f"{WINDOW}&page=%00%F0%9F%8E%82", "is not a cursor"),
    (f"{WINDOW}&user_ids=%FF", "not percent-encoded UTF-8"),
    (f"{WINDOW}&user_ids=%ED%A0%80", "not percent-encoded UTF-8"),
    (f"{WINDOW}&users=a", "unknown parameter: users"),
    (f"{WINDOW}&user_ids[]=a", "unknown parameter"),
    (f"{WINDOW}&=a", "unknown parameter"),
]


@pytest.mark.parametrize(("query", "error"), BAD)
def test_what_the_api_refuses_is_refused_with_the_same_status_and_shape(
    http: httpx.Client, api: httpx.Client, query: str, error: str
) -> None:
    ours, theirs = ask(http, query), ask(api, query)
    assert ours.status_code == theirs.status_code == 400
    assert json.dumps(list(theirs.json())) == json.dumps(list(ours.json()))
    assert error.partition(".*")[0] in error_of(ours)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused_as_the_api_refuses_them(
    http: httpx.Client, api: httpx.Client, method: str
) -> None:
    ours, theirs = (each.request(method, f"{PATH}?{WINDOW}") for each in (http, api))
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    assert set(ours.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert error_of(ours) == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/api", f"{PATH}s", "/%2e%2e", "/%00", "/openapi.json/x"])
def test_other_paths_are_refused_as_the_api_refuses_them(
    http: httpx.Client, api: httpx.Client, path: str
) -> None:
    ours, theirs = http.get(path), api.get(path)
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    assert ours.status_code == 404


def test_the_path_with_a_slash_behind_it_is_another_path(http: httpx.Client) -> None:
    assert http.get(f"{PATH}/?{WINDOW}").status_code == 404


# What the lake does not know


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("group_by=org_id", "group_by 'org_id' is not in the lake"),
        ("external_user_ids=a", "external_user_ids is not in the lake: filter by user_ids"),
        ("org_ids=a", "org_ids is not in the lake"),
        ("all_orgs=true", "all_orgs is not in the lake"),
    ],
)
def test_what_the_lake_does_not_know_is_refused(http: httpx.Client, query: str, error: str) -> None:
    answer = ask(http, f"{WINDOW}&{query}")
    assert answer.status_code == 400
    assert error in error_of(answer)


def test_acting_for_a_user_is_refused_as_nobody_knows_what_it_would_count(
    http: httpx.Client,
) -> None:
    answer = http.get(f"{PATH}?{WINDOW}", headers={"X-On-Behalf-Of": "a"})
    assert answer.status_code == 400
    assert "user_ids" in error_of(answer)


def test_a_query_of_any_length_has_an_answer(http: httpx.Client) -> None:
    longest = WINDOW + "&user_ids=" + "a" * (LONGEST_QUERY - len(WINDOW) - 10)
    assert ask(http, longest).status_code == 200
    answer = ask(http, f"{longest}a")
    assert answer.status_code == 414
    assert "longer than 32,768 bytes" in error_of(answer)


@pytest.mark.parametrize("user", [*USERS, "\x00", "%", "&a=b", "+", " ", "\U0001f382", "e\u0301"])
def test_an_id_may_hold_any_character(http: httpx.Client, traffic: World, user: str) -> None:
    answer = ask(http, f"{WINDOW}&group_by=user_id&user_ids={quote(user, safe='')}")
    assert answer.status_code == 200
    assert answer.json()["data"] == traffic.usage(START, END, "1d", ["user_id"], [user])


def test_the_order_and_the_repetition_of_arrays_changes_nothing(http: httpx.Client) -> None:
    one = ask(http, f"{WINDOW}&group_by=user_id&group_by=api_key_id&user_ids=a&user_ids=user_0000")
    other = ask(
        http,
        f"{WINDOW}&user_ids=user_0000&user_ids=a&user_ids=a&group_by=api_key_id&group_by=user_id"
        "&group_by=user_id",
    )
    assert one.status_code == 200
    assert one.content == other.content


# What the API does not have


@pytest.mark.parametrize(
    ("width", "tz"),
    [*((width, "UTC") for width in ANY_WIDTHS), ("1d", "Asia/Karachi"), ("1h", "Asia/Kathmandu")],
)
def test_any_width_in_any_zone_is_served_as_the_lake_counts_it(
    home: Path, http: httpx.Client, width: AnyWidth, tz: str
) -> None:
    window = START + DAY, START + DAY + 12 * 3_600
    query = PageQuery(*window, width, 700, group_by=["user_id"], tz=tz)
    answered = answer(Lake(home / "lake"), query, partial=True)
    with serving(home, partial=True) as server, client(server.url) as asking:
        asked = f"start_time={window[0]}&end_time={window[1]}&bucket_width={width}&tz={quote(tz)}"
        page = ask(asking, f"{asked}&group_by=user_id&limit=700")
    assert page.json() == answered.page
    assert any(bucket["results"] for bucket in page.json()["data"])


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("tz=Karachi", "'Karachi' is no time zone: did you mean Asia/Karachi?"),
        ("tz=", "'' is no time zone"),
        ("tz=../../etc/passwd", "is no time zone"),
        ("tz=UTC&tz=UTC", "tz is given twice"),
    ],
)
def test_what_is_no_zone_is_refused(http: httpx.Client, query: str, error: str) -> None:
    answered = ask(http, f"{WINDOW}&{query}")
    assert answered.status_code == 400
    assert error in error_of(answered)


# What is not loaded


@pytest.mark.parametrize(
    ("start", "end", "error"),
    [
        (START - DAY, END, "not loaded: 2023-12-31. "),
        (START - 3 * DAY, START - 2 * DAY, "not loaded: 2023-12-29. "),
        (START - 3 * DAY, END, "not loaded: 2023-12-29 to 2023-12-31. "),
    ],
)
def test_days_that_were_never_loaded_are_named_and_refused(
    http: httpx.Client, start: int, end: int, error: str
) -> None:
    answer = ask(http, f"start_time={start}&end_time={end}")
    assert answer.status_code == 400
    assert error in error_of(answer)
    assert "mka1-usage run --start" in error_of(answer)


@pytest.mark.parametrize(
    ("start", "end", "through"),
    [
        (START, END, END),
        (START, START + DAY, START + DAY),
        (START, END + 5 * DAY, END),
        (END + DAY, END + 3 * DAY, END + DAY),
    ],
)
def test_what_lies_after_the_last_day_is_empty_and_the_header_says_so(
    http: httpx.Client, traffic: World, start: int, end: int, through: int
) -> None:
    answer = ask(http, f"start_time={start}&end_time={end}")
    assert answer.json()["data"] == traffic.usage(start, end, "1d")
    assert answer.headers["x-usage-complete-through"] == str(through)


def test_a_start_in_the_future_needs_an_end(http: httpx.Client) -> None:
    answer = ask(http, "start_time=9999999999")
    assert answer.status_code == 400
    assert "lies in the future" in error_of(answer)


def test_partial_serves_a_gap_as_empty_and_the_header_says_so(home: Path, traffic: World) -> None:
    query = f"start_time={START - DAY}&end_time={END}"
    with serving(home, partial=True) as server, client(server.url) as http:
        answer = ask(http, query)
    assert answer.json()["data"] == traffic.usage(START - DAY, END)
    assert answer.headers["x-usage-complete-through"] == str(START - DAY)


def test_a_lake_that_cannot_be_read_is_the_servers_fault_and_says_how_to_find_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    version = tmp_path / "lake" / "days" / str(day_of(START))
    version.mkdir(parents=True)
    (version / "usage_1d.parquet").write_bytes(b"no Parquet")
    with serving(tmp_path) as server, client(server.url) as http:
        answer = ask(http, f"start_time={START}&end_time={START + DAY}")
    assert answer.status_code == 500
    assert "mka1-usage verify" in error_of(answer)
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "mka1-usage: error: the lake cannot be read" in said


# Who is let in


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        KEYS[0],
        f"Basic {KEYS[0]}",
        f"Bearer {KEYS[0]}x",
        f"Bearer {KEYS[0][:-1]}",
        f"Bearer {','.join(KEYS)}",
        f"Bearer {KEYS[0]} {KEYS[0]}",
        "Bearer \u00e9",
    ],
)
def test_without_one_of_its_keys_nobody_is_let_in(
    locked: httpx.Client, api: httpx.Client, authorization: str | None
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    ours = locked.get(f"{PATH}?{WINDOW}", headers=headers)
    theirs = httpx.get(f"{api.base_url}{PATH}", trust_env=False, verify=False)
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    assert ours.status_code == 401
    assert ours.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("authorization", [f"Bearer {KEYS[0]}", f"bearer  {KEYS[1]}"])
def test_with_any_of_its_keys_everybody_is(locked: httpx.Client, authorization: str) -> None:
    headers = {"Authorization": authorization, "Host": "usage.example"}
    assert locked.get(f"{PATH}?{WINDOW}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (host, 200)
            for host in ("localhost", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "LOCALHOST:1")
        ),
        *((host, 400) for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil", "")),
        *(
            (host, 400)
            for host in ("evil.example:80", "[::2]", "localhost:x", "0.0.0.0", "127.0.0.1\u0661")
        ),
    ],
)
@pytest.mark.parametrize("path", [f"{PATH}?{WINDOW}", "/openapi.json"])
def test_without_keys_it_answers_to_names_of_this_machine_only(
    http: httpx.Client, host: str, status: int, path: str
) -> None:
    assert http.get(path, headers=[(b"Host", host.encode())]).status_code == status


def test_no_key_and_no_user_is_in_any_log_or_answer(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = []
    with serving(home, keys=KEYS) as server:
        for key in (*KEYS, "wrong-" + "5ec2e7" * 4):
            with client(server.url, key) as http:
                for query in (f"{WINDOW}&user_ids=user_0000", f"{WINDOW}&limit=0", ""):
                    answers.append(ask(http, query))
                answers.append(http.post(PATH))
    said = "".join(capfd.readouterr()) + "".join(it.text + str(it.headers) for it in answers)
    assert {it.status_code for it in answers} == {200, 400, 401, 405}
    assert "5ec2e7" not in said
    assert "user_0000" not in said


# Small services of HTTP


def test_head_answers_as_get_does_without_a_body(http: httpx.Client) -> None:
    got, head = ask(http, WINDOW), http.head(f"{PATH}?{WINDOW}")
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


def test_a_page_that_is_still_the_same_need_not_be_sent_again(http: httpx.Client) -> None:
    first = ask(http, WINDOW)
    again = http.get(f"{PATH}?{WINDOW}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["x-usage-complete-through"] == str(END)
    other = http.get(f"{PATH}?{WINDOW}&limit=2", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("*", 304),
        ("{0}", 304),
        ("W/{0}", 304),
        ('"other", {0}', 304),
        ('"other",W/{0} , "more"', 304),
        ('"other"', 200),
        ('"*"', 200),
        ('W/"other", "more"', 200),
        ("", 200),
        ("{1}", 200),
        ('"x{1}"', 200),
    ],
)
def test_a_page_that_the_client_has_by_any_of_its_tags_is_a_304(
    http: httpx.Client, named: str, code: int
) -> None:
    """`{1}` is the tag without its quotes, which is none."""
    etag = ask(http, WINDOW).headers["etag"]
    headers = {"If-None-Match": named.format(etag, etag.strip('"'))}
    assert http.get(f"{PATH}?{WINDOW}", headers=headers).status_code == code


def test_tags_may_stand_in_several_lines(http: httpx.Client) -> None:
    etag = ask(http, WINDOW).headers["etag"]
    headers = [("If-None-Match", '"other"'), ("If-None-Match", etag)]
    assert http.get(f"{PATH}?{WINDOW}", headers=headers).status_code == 304


def test_a_page_of_the_same_numbers_of_which_more_is_complete_is_another_page(
    tmp_path: Path,
) -> None:
    world = World(clock=ManualClock(START + DAY / 2))
    lake, query = Lake(tmp_path / "lake"), f"start_time={START}&end_time={START + DAY}"
    etags, through = [], []
    for _ in range(2):
        with EmulatorServer(world) as api:
            load(api, lake, [day_of(START)])
        with serving(tmp_path) as server, client(server.url) as http:
            answer = ask(http, query)
        etags.append(answer.headers["etag"])
        through.append(int(answer.headers["x-usage-complete-through"]))
        world.clock = ManualClock(START + DAY)
    assert through == [START + DAY // 2, START + DAY]
    assert etags[0] != etags[1]
