"""The page that a browser gets: the report, for those who may see it, made once a version."""

from __future__ import annotations

import asyncio
import csv
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.usage import PATH
from pipeline.emulator import World
from pipeline.lake.store import Lake
from pipeline.names.file import Named, Names, NamesOfNow
from pipeline.report import figures
from pipeline.report.choices import LONGEST_ID, MOST, choices
from pipeline.report.source import Only
from pipeline.serve import live, page_route
from pipeline.serve import pages as made
from pipeline.serve.live import Problem
from pipeline.serve.page_question import NoQuestion, Question, read
from pipeline.serve.page_route import LONGEST_PAGE_QUERY
from pipeline.serve.pages import MOST_UNDER_WAY, Asked, Pages, TooManyError
from pipeline.settings import load_settings
from pipeline.timeline import day_of
from tests.report.scenes import LATER, ODD_IDS, loaded, one_a_day
from tests.report.test_page import Page
from tests.serve.asking import END, KEYS, START, client, serving

LAST: Final = day_of(END - 1)
ODD: Final = "it's;--\\n"


def asked(http: httpx.Client, address: str) -> httpx.Response:
    """A page: the first charts of a process take seconds on a busy machine."""
    return http.get(address, timeout=60)


@pytest.fixture(scope="module")
def shown(http: httpx.Client) -> httpx.Response:
    """The page of all that is loaded."""
    return asked(http, "/")


@pytest.fixture(scope="module")
def locked(home: Path) -> Iterator[httpx.Client]:
    """A client without a key, of a server that asks for one."""
    with serving(home, keys=KEYS) as server, client(server.url) as asking:
        yield asking


# What it is asked for

QUESTIONS: list[tuple[str, Question]] = [
    ("", Question()),
    ("first=&last=&tz=&user=&key=&model=", Question()),
    ("first=2024-01-02&last=2024-01-03", Question(date(2024, 1, 2), date(2024, 1, 3))),
    ("days=7", Question(days=7)),
    ("last=2024-01-31&days=7", Question(last=date(2024, 1, 31), days=7)),
    ("first=2024-01-02&days=7", Question(date(2024, 1, 2), date(2024, 1, 8))),
    ("first=2024-01-02&days=28", Question(date(2024, 1, 2), date(2024, 1, 29))),
    ("first=9999-12-30&days=7", Question(date(9999, 12, 30), date.max)),
    ("first=2024-01-02", Question(date(2024, 1, 2))),
    ("first=2024-01-02&last=2024-01-03&days=", Question(date(2024, 1, 2), date(2024, 1, 3))),
    ("tz=Asia%2FKarachi", Question(tz="Asia/Karachi")),
    ("user=a+b&key=k%26k", Question(only=Only("a b", "k&k"))),
    ("model=%E5%A4%A7", Question(only=Only(model="大"))),
]


@pytest.mark.parametrize(("query", "question"), QUESTIONS)
def test_an_address_is_a_question(query: str, question: Question) -> None:
    assert read(query.encode()) == question


IDS = st.none() | st.text().filter(str.strip)


@given(
    days=st.integers(1, 3_660),
    period=st.none() | st.tuples(st.dates(), st.dates()).map(sorted),
    tz=st.sampled_from(["UTC", "Asia/Karachi", "Etc/GMT+5"]),
    only=st.builds(Only, IDS, IDS, IDS, IDS),
)
def test_a_question_has_an_address_that_asks_it(
    days: int, period: list[date] | None, tz: str, only: Only
) -> None:
    question = Question(days=days, tz=tz, only=only)
    if period:
        question = Question(first=period[0], last=period[1], tz=tz, only=only)
    assert read(question.address.removeprefix("/").removeprefix("?").encode()) == question


def test_a_form_leads_to_the_address_to_keep(http: httpx.Client) -> None:
    answer = http.get("/?first=2024-01-02&last=2024-01-03&tz=UTC&user=a%26b&key=&model=")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?first=2024-01-02&last=2024-01-03&user=a%26b"


NO_QUESTIONS = [
    ("first=2024-1-2", "From (first) is '2024-1-2': it must be a day such as 2024-01-31"),
    ("last=20240131", "Through (last) is '20240131': it must be a day"),
    ("last=2024-02-30", "Through (last) is '2024-02-30': it must be a day"),
    ("first=2024-01-02&last=2024-01-01", "the period ends before it begins: 2024-01-02 to"),
    ("days=0", "days is '0': it must be a number from 1 to 3,660"),
    ("days=x", "days is 'x'"),
    ("first=2024-01-01&last=2024-01-02&days=3", "leave one of the three out"),
    ("tz=Karachi", "'Karachi' is no time zone: did you mean Asia/Karachi?"),
    ("user=a&user=b", "user is given twice"),
    ("key=%FF", "the address is not percent-encoded UTF-8"),
    ("org=a", "unknown parameter 'org': it takes first, last, days, tz, user, key, model, team"),
]


@pytest.mark.parametrize(("query", "why"), NO_QUESTIONS)
def test_what_is_no_question_is_refused_in_one_line(query: str, why: str) -> None:
    found = read(query.encode())
    assert isinstance(found, NoQuestion)
    assert why in found.why
    assert "\n" not in found.why


# The page


def test_a_browser_gets_the_report_of_the_last_days(shown: httpx.Response) -> None:
    assert shown.status_code == 200
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(shown.text)
    assert "1 to 3 January 2024" in page.said("h1")
    fields = {one["name"]: one.get("value") for one in page.all("input")}
    assert fields == {"first": "2024-01-01", "last": str(LAST), "tz": "UTC", "user": ""}
    labelled = {one["for"] for one in page.all("label")}
    assert labelled == {*fields, "key", "model"}, "and no team where there is none"
    assert labelled == {one["id"] for kind in ("input", "select") for one in page.all(kind)}


def test_it_needs_no_script_and_no_network(shown: httpx.Response) -> None:
    page = Page(shown.text)
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "img", "iframe"}]
    assert not [attrs for _, attrs in page.elements if any(name[:2] == "on" for name in attrs)]
    assert {link["href"][0] for link in page.all("a")} == {"/", "#"}
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "form-action 'self'" in policy
    assert "form-action 'self'" in page.all("meta")[1]["content"]
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_every_link_is_a_question(shown: httpx.Response) -> None:
    links = {link["href"] for link in Page(shown.text).all("a") if link["href"][0] == "/"}
    assert {"/?days=7", "/", "/?key=key_web", "/?user=user_0000"} <= links
    assert {isinstance(read(link.partition("?")[2].encode()), Question) for link in links} == {True}


def test_it_is_of_the_user_and_the_key_that_are_asked_for(
    http: httpx.Client, traffic: World
) -> None:
    with without_charts():
        answer = asked(http, f"/?{urlencode({'user': ODD, 'key': 'key_web'})}")
    page = Page(answer.text)
    [expected] = [
        sum(
            result["num_operations"]
            for bucket in traffic.usage(START, END, "1d", ["api_key_id"], [ODD])
            for result in bucket["results"]
            if result["api_key_id"] == "key_web"
        )
    ]
    assert f"made {expected:,} operations, added" in page.said("p")
    assert "Of user it's;--\\n, API key key_web" in page.said("bdi")
    assert "/" in {link["href"] for link in page.all("a")}, "the way back to all"
    made = "mka1-usage report --start 2024-01-01 --end 2024-01-04 --tz UTC"
    assert f"{made} --user 'it'\"'\"'s;--\\n' --key key_web" in page.said("code")


@contextmanager
def without_charts() -> Iterator[None]:
    """Pages whose charts are not drawn: that takes most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.report.page._both", lambda *_: "")
        yield


@pytest.fixture(scope="module")
def of_team(home: Path, tmp_path_factory: pytest.TempPathFactory) -> httpx.Response:
    """The page of a team, of a server that has names."""
    lines = ["user,user_0000,Ada,crew", 'key,key_web,Web shop,R&D "x"', "team,crew,<The> crew,"]
    names = tmp_path_factory.mktemp("names") / "names.csv"
    with names.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["kind", "id", "name", "team"], *(line.split(",") for line in lines)]
        )
    with serving(home, set_names=names) as server, client(server.url) as http, without_charts():
        return asked(http, "/?team=crew&key=key_web")


def test_it_is_of_the_team_that_is_asked_for(of_team: httpx.Response, traffic: World) -> None:
    page = Page(of_team.text)
    assert "Of API key Web shop, team <The> crew" in page.said("bdi")
    [expected] = [
        sum(
            result["num_operations"]
            for bucket in traffic.usage(START, END, "1d", ["api_key_id"], ["user_0000"])
            for result in bucket["results"]
            if result["api_key_id"] == "key_web"
        )
    ]
    assert f"made {expected:,} operations, added" in page.said("p")
    assert "--tz UTC --key key_web --team crew" in page.said("code")


def test_a_form_offers_teams_and_names_where_there_are_any(of_team: httpx.Response) -> None:
    page = Page(of_team.text)
    assert "Team" in page.said("label").split()
    chosen = [one["value"] for one in page.all("option") if "selected" in one]
    assert chosen == ["key_web", "crew"]
    assert {"crew", 'R&D "x"'} <= {one["value"] for one in page.all("option")}
    assert {"<The> crew", 'R&D "x"', "Web shop", "Ada"} <= {
        text for tag, text in page.texts if tag == "option"
    }
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    in_order = [one["name"] for tag, one in page.elements if tag in {"input", "select"}]
    assert in_order == ["first", "last", "tz", "user", "key", "model", "team"]
    assert not [one for _, one in page.elements if one.get("tabindex", "0") not in {"0", "-1"}]


def test_names_of_teams_lead_to_their_pages(home: Path) -> None:
    odd = 'R&D "é" <b>'
    names = Names([Named(2, "user", "user_0000", "", odd), Named(3, "key", "key_web", "", "shop")])
    lake = Lake(home / "lake")
    found = figures.read(lake, None, None, ZoneInfo("UTC"), names=names)
    with without_charts():
        page = Page(live.report(found, Question(), choices(lake, found.period, names)))
    questions = [read(link["href"].partition("?")[2].encode()) for link in page.all("a")]
    led_to = {one.only.team for one in questions if isinstance(one, Question)}
    assert led_to == {None, odd, "shop"}, "and none for usage without a team"
    assert [row[0] for row in page.table("The teams that use most")[1:]].count("(no team)") == 1


def test_who_came_and_who_went_lead_to_their_pages(tmp_path: Path) -> None:
    events = [*one_a_day(["kept"], range(4)), *one_a_day(["went"], range(1, 2))]
    lake = loaded(
        tmp_path / "lake", [*events, *one_a_day(["came"], range(2, 4))], (LATER, range(4))
    )
    found = figures.read(lake, date(2024, 1, 3), date(2024, 1, 4), ZoneInfo("UTC"))
    with without_charts():
        page = Page(live.report(found, Question(), choices(lake, found.period)))
    assert [row[0] for row in page.table("Lapsed users")] == ["User", "went"]
    links = Counter(link["href"] for link in page.all("a"))
    assert (links["/?user=went"], links["/?user=came"]) == (1, 2), "came is a top user, too"


def test_where_there_are_too_many_to_choose_from_an_id_is_typed_in(home: Path) -> None:
    rows = [Named(2, "user", f"u{number}", "", f"t{number:03}") for number in range(MOST + 1)]
    offered = choices(Lake(home / "lake"), None, Names(rows))
    text = live.problem(Problem("", ""), {"team": f"t{MOST:03}"}, offered)
    [field] = [one for one in Page(text).all("input") if one["name"] == "team"]
    assert (field["value"], field["list"]) == (f"t{MOST:03}", "offered-team")
    assert f'"t{MOST - 1:03}"' in text


@pytest.mark.slow
def test_odd_ids_lead_to_themselves_and_do_nothing_else(tmp_path: Path) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(ODD_IDS, range(1)), (LATER, [0]))
    found = figures.read(lake, None, None, ZoneInfo("UTC"))
    text = live.report(found, Question(), choices(lake, found.period), pseudonyms=True)
    page = Page(text)
    assert "<script" not in text
    links = {link["href"].partition("?")[2] for link in page.all("a")}
    questions = [read(link.encode()) for link in links]
    led_to = {one.only.user for one in questions if isinstance(one, Question)}
    short = {id_ for id_ in ODD_IDS if len(id_) <= LONGEST_ID and id_.strip()}
    assert led_to - {None} == short
    assert "/?user=+" not in {link["href"] for link in page.all("a")}, "it would be read as none"
    assert short <= {one["value"] for one in page.all("option")}
    assert "x" * 101 not in text, "nor is a long one repeated"
    assert "User (pseudonym)" in page.said("label")


@pytest.mark.slow
def test_days_are_those_of_the_zone(http: httpx.Client, traffic: World) -> None:
    page = Page(asked(http, "/?first=2024-01-02&last=2024-01-02&tz=Asia/Karachi").text)
    start = START + 19 * 3_600
    found = traffic.usage(start, start + 24 * 3_600, "1h")
    expected = sum(one["num_operations"] for bucket in found for one in bucket["results"])
    assert f"made {expected:,} operations" in page.said("p")
    assert "1 day in Asia/Karachi" in page.said("p")


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("tz=Karachi&user=%3Cb%3E", 400, "'Karachi' is no time zone: did you mean Asia/Karachi?"),
        ("first=2023-01-01&last=2023-01-02&user=%3Cb%3E", 404, "no day of 2023-01-01 to"),
        ("model=large&user=%3Cb%3E", 404, "no response of this model is listed"),
        ("team=cr%3Cew&user=%3Cb%3E", 404, "nobody is in the team 'cr<ew': names.csv"),
        ("last=9999-12-31&user=%3Cb%3E", 400, "is too far in the future"),
    ],
)
def test_what_has_no_answer_is_said_on_a_page_that_keeps_the_form(
    http: httpx.Client, query: str, status: int, said: str
) -> None:
    answer = http.get(f"/?{query}")
    assert answer.status_code == status
    page = Page(answer.text)
    alerts = [one for one in page.all("p") if one.get("role") == "alert"]
    assert len(alerts) == 1
    assert said in page.said("p")
    [user] = [one["value"] for one in page.all("input") if one["name"] == "user"]
    assert user == "<b>"
    assert [one for one in page.all("option") if one["value"] == "key_web"]
    assert "etag" not in answer.headers


def test_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    with serving(tmp_path) as server, client(server.url) as http:
        answer = http.get("/?user=a")
    page = Page(answer.text)
    assert answer.status_code == 404
    assert page.said("h1") == "Nothing is loaded yet"
    assert "`mka1-usage run`" in page.said("p")
    assert str(tmp_path) not in answer.text


def test_a_lake_that_cannot_be_read_is_a_page_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    version = tmp_path / "lake" / "days" / "2024-01-01"
    version.mkdir(parents=True)
    (version / "usage_1d.parquet").write_bytes(b"no Parquet")
    with serving(tmp_path) as server, client(server.url) as http:
        answer = http.get("/")
    assert answer.status_code == 500
    assert "`mka1-usage verify`" in Page(answer.text).said("p")
    assert str(tmp_path) not in answer.text
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_that_nobody_expected_is_a_page_and_its_trace_is_the_operators(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> made.Page:
        raise RuntimeError("planted-error")

    monkeypatch.setattr(Pages, "_page", broken)
    with serving(home, keys=KEYS) as server, client(server.url) as http:
        answer = http.get("/", headers={"Authorization": basic("", KEYS[0])})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page(answer.text)
    assert page.said("h1") == "The server failed"
    assert "what went wrong stands in its output" in page.said("p")
    assert "planted-error" not in answer.text
    assert "RuntimeError: planted-error" in caplog.text


def test_charts_are_warmed_up_and_a_failure_of_that_is_left_to_the_first_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[object] = []

    def broken(chart: object) -> str:
        drawn.append(chart)
        raise RuntimeError

    monkeypatch.setattr(live, "finished", broken)
    live.warm_up()
    assert len(drawn) == 1


@pytest.mark.parametrize("name", ["prices", "budgets", "names"])
def test_a_wrong_price_list_is_a_page_and_a_line_for_the_operator(
    home: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("no,such,columns\n")
    setting: dict[str, Any] = {f"set_{name}": wrong}
    with serving(home, **setting) as server, client(server.url) as http:
        answer = http.get("/")
        assert answer.status_code == 500
        assert "`mka1-usage prices check`" in Page(answer.text).said("p")
        assert str(wrong) not in answer.text
    assert str(wrong) in capfd.readouterr().err


def test_names_that_cannot_be_looked_at_are_a_page_too(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        serving(home, set_names=tmp_path / "file" / "names.csv") as server,
        client(server.url) as http,
    ):
        answer = http.get("/")
    assert "`mka1-usage names check` say what is wrong" in Page(answer.text).said("p")


def test_a_page_that_takes_long_is_asked_for_again_by_the_browser(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_route, "LONGEST_WAIT", 0)
    answer = http.get("/?days=0")
    assert answer.status_code == 503
    assert answer.headers["refresh"] == answer.headers["retry-after"] == "5"
    assert "still being made" in Page(answer.text).said("h1")


def test_an_address_that_is_too_long_is_refused(http: httpx.Client) -> None:
    answer = http.get(f"/?user={'a' * LONGEST_PAGE_QUERY}")
    assert answer.status_code == 414
    assert "too long" in Page(answer.text).said("h1")


# Who is let in


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !",
        "Basic /w==",
        f"Basic {KEYS[0]}",
        basic(KEYS[0], ""),
        basic("", f"{KEYS[0]}x"),
        basic("", f" {KEYS[0]}"),
        f"Bearer {KEYS[0][:-1]}",
    ],
)
def test_without_a_key_a_browser_asks_for_one(
    locked: httpx.Client, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = locked.get("/", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="MKA1 usage", charset="UTF-8"'
    assert "one of the keys of MKA1_USAGE_SERVE_KEYS as the password" in Page(answer.text).said("p")
    assert "operations" not in answer.text.partition("<main")[2]


@pytest.mark.parametrize(
    "authorization", [basic("", KEYS[0]), basic("Zoë", KEYS[1]), f"Bearer {KEYS[0]}"]
)
def test_a_key_lets_a_browser_in_as_its_password(
    locked: httpx.Client, authorization: str, capfd: pytest.CaptureFixture[str]
) -> None:
    headers = {"Authorization": authorization, "Host": "usage.example"}
    answer = locked.get("/?tz=Karachi", headers=headers)
    assert answer.status_code == 400, "let in, and answered"
    assert "did you mean Asia/Karachi?" in Page(answer.text).said("p")
    assert "5ec2e7" not in answer.text + str(answer.headers) + "".join(capfd.readouterr())


def test_the_apis_own_path_takes_no_password(locked: httpx.Client) -> None:
    headers = {"Authorization": basic("", KEYS[0])}
    assert locked.get(f"{PATH}?start_time={START}", headers=headers).status_code == 401


def test_without_keys_another_name_of_the_host_is_refused(http: httpx.Client) -> None:
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 400


# Small services of HTTP


def test_a_page_that_is_still_the_same_is_not_sent_again(
    http: httpx.Client, shown: httpx.Response
) -> None:
    again = http.get("/", headers={"If-None-Match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == shown.headers["etag"]
    head = http.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**shown.headers, "date": ""}
    assert http.post("/").status_code == 405


# How often it is made


class Counted(Pages):
    """Pages that hold nothing but how many were made; they are made once `let` is set."""

    def __init__(self, home: Path, kept_bytes: int = 1 << 20) -> None:
        settings = load_settings(home=home)
        lake = Lake(settings.lake)
        names = NamesOfNow(settings, lake)
        super().__init__(settings, lake, names, lambda: self.pulled_at, kept_bytes)
        self.pulled_at: float | None = None
        self.made = 0
        self.let = Event()
        self.let.set()

    def _page(self, asked: Asked, pulled_at: float | None) -> made.Page:
        assert self.let.wait(60)
        self.made += 1
        return made.Page(b"%d" % self.made + b" " * 1_000)


def contents(home: Path, work: Callable[[Counted], Awaitable[None]], **options: int) -> Counted:
    """Pages after some work with them."""

    async def all_of_it() -> Counted:
        pages = Counted(home, **options)
        try:
            await work(pages)
        finally:
            pages.let.set()
            pages.close()
        return pages

    return asyncio.run(all_of_it())


def test_a_question_is_answered_once_however_many_ask(home: Path) -> None:
    async def work(pages: Counted) -> None:
        pages.let.clear()
        asking = [asyncio.ensure_future(pages.page(Question())) for _ in range(50)]
        asking.append(asyncio.ensure_future(pages.page(Question(days=7))))
        await asyncio.sleep(0)
        asking[0].cancel()
        pages.let.set()
        answers = await asyncio.gather(*asking[1:])
        assert len({page.content for page, _ in answers[:-1]}) == 1
        await pages.page(Question())

    assert contents(home, work).made == 2


def test_it_is_made_again_once_the_lake_was_pulled_again(home: Path) -> None:
    async def work(pages: Counted) -> None:
        for pulled_at in (1.0, 2.0):
            pages.pulled_at = pulled_at
            await pages.page(Question())
            await pages.page(Question())

    assert contents(home, work).made == 2


def test_it_is_made_again_once_a_day_prices_budgets_or_names_are_new(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    day = tmp_path / "lake" / "days" / "2024-01-01"
    assert lake.link(date(2024, 1, 1)) == day

    def replaced() -> None:
        day.rename(tmp_path / "old")
        day.mkdir()

    async def work(pages: Counted) -> None:
        changes: list[Callable[[], None]] = [
            lambda: day.mkdir(parents=True),
            replaced,
            (tmp_path / "prices.csv").touch,
            (tmp_path / "budgets.csv").touch,
            (tmp_path / "names.csv").touch,
        ]
        for count, change in enumerate(changes, start=1):
            await pages.page(Question())
            await pages.page(Question())
            assert pages.made == count
            change()
        await pages.page(Question())

    assert contents(tmp_path, work).made == 6


def test_what_is_kept_has_a_bound_and_so_has_what_waits(home: Path) -> None:
    async def work(pages: Counted) -> None:
        for days in (1, 2, 3, 1):
            await pages.page(Question(days=days))
        assert pages.made == 4, "two fit, so the first is made again"
        await pages.page(Question(days=3))
        assert pages.made == 4
        pages.let.clear()
        asking = [
            asyncio.ensure_future(pages.page(Question(days=10 + days)))
            for days in range(MOST_UNDER_WAY)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyError):
            await pages.page(Question(days=9))
        pages.let.set()
        await asyncio.gather(*asking)

    contents(home, work, kept_bytes=2_500)
