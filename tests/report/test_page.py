"""The page: whole, safe, readable by everybody, and true to the numbers."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from pipeline.emulator import EmulatorServer, Event, synthetic_world
from pipeline.lake.schemas import USAGE
from pipeline.lake.store import Lake
from pipeline.pricing.budgets import read_budgets
from pipeline.pricing.prices import read_prices
from pipeline.report.drawing import COLOURS, SCALE
from pipeline.report.figures import MEASURES, Figures, read
from pipeline.report.page import command, pictures, render
from pipeline.report.period import Period
from pipeline.report.sections import page_content
from pipeline.report.source import EVERYTHING, Only
from pipeline.timeline import DAY
from tests.bounded import finished as finished_process
from tests.lake.served import plant
from tests.report.scenes import LATER, ODD_IDS, Bucket, listed, loaded, on, one_a_day
from tests.synced import Reader
from tests.truth import load

UTC: Final = ZoneInfo("UTC")
VOID: Final = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page as a browser reads it: elements, their texts, and what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str]]] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.inside: dict[str, list[str]] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self._caption = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        assert len(known) == len(attrs), f"an attribute of <{tag}> comes twice"
        self.elements.append((tag, known))
        if tag not in VOID:
            self.open.append((tag, known))
        if tag == "tr" and self._caption:
            self.tables[self._caption].append([])
        if tag in {"td", "th"}:
            self.tables[self._caption][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag
        if tag == "table":
            self._caption = ""

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        self.texts.append((tags[-1] if tags else "", data))
        if "caption" in tags:
            self._caption = data
            self.tables[data] = []
        if self._caption and {"td", "th"} & set(tags):
            self.tables[self._caption][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a kind."""
        return [attrs for name, attrs in self.elements if name == tag]

    def said(self, tag: str) -> str:
        """All text in elements of a kind."""
        return " ".join(" ".join(text.split()) for name, text in self.texts if name == tag)

    def table(self, caption: str) -> list[list[str]]:
        """Head and rows of the table whose caption begins like that."""
        [found] = [rows for name, rows in self.tables.items() if name.startswith(caption)]
        return found


def scene(name: str, root: Path) -> Figures:
    """Figures of lakes with something the matter."""
    if name == "odd ids":
        events = [
            Event(START_OF_SCENES + 60 * number, user, user, 1, number, 20 - number)
            for number, user in enumerate([*ODD_IDS, "p", "q", "r"])
        ]
        return read(loaded(root, events, (LATER, range(1))), None, None, UTC)
    if name == "gaps":
        now = START_OF_SCENES + 16 * DAY + 9_000
        events = one_a_day(["a"], range(17))
        lake = loaded(root, events, (LATER, (0, 1, 2, 3, 7, 8, 9, 13)), (now, (15, 16)))
        return read(lake, on(7), on(16), UTC)
    if name == "no usage":
        return read(loaded(root, [], (LATER, range(2))), None, None, UTC)
    if name == "one user":
        return read(loaded(root, one_a_day(["a"], range(1)), (LATER, [0])), None, None, UTC)
    if name == "no user, no key":
        events = [Event(START_OF_SCENES, None, None, 0, 0, 1)]
        return read(loaded(root, events, (LATER, [0])), None, None, UTC)
    if name == "weeks":
        lake = loaded(root, one_a_day(["a"], range(10)), (LATER, range(10)))
        return read(lake, on(-200), on(9), UTC)
    raise ValueError(name)


def of_tokens(root: Path) -> Figures:
    """Figures of odd models in several currencies, of which some have no price, with gaps."""
    ids = [*ODD_IDS, None, "free"]
    buckets = [
        Bucket(
            day,
            user,
            model=model,
            responses=3,
            failed=place % 3,
            input=600 + 90 * place,
            cached=40 * place,
            reasoning=60,
            total=700 + 90 * place,
        )
        for day in range(14)
        for place, (user, model) in enumerate(zip(ids, reversed(ids), strict=True))
        if (day + place) % 3
    ]
    lake = listed(root, buckets, range(14), [*range(11), 13])
    path = root / "prices.csv"
    path.write_text(
        "model,valid_from,currency,input,output\nfree,2024-01-01,usd,0,0\n"
        "=*,2024-01-01,eur,1,2\nx*,2024-01-05,usd,10,20\n*,2024-01-09,usd,1.5,3\n"
    )
    prices = read_prices(path)
    path = root / "budgets.csv"
    path.write_text(
        "scope,id,period,tz,measure,amount,thresholds\n"
        'user,"&amp;<b>"" onload=""alert(1)",week,America/New_York,operations,3,50 80 120\n'
        "all,,month,,tokens,1000000,\nkey,<script>,day,,tokens,10,\n"
    )
    return read(lake, on(7), on(13), UTC, prices, read_budgets(path, prices))


START_OF_SCENES: Final = LATER - 400 * DAY
SCENES: Final = ["odd ids", "gaps", "no usage", "one user", "no user, no key", "weeks", "tokens"]


Drawn = Callable[[str], tuple[Figures, str]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """The figures and the page of a scene, by its name."""

    @cache
    def of(name: str) -> tuple[Figures, str]:
        make = of_tokens if name == "tokens" else partial(scene, name)
        figures = make(tmp_path_factory.mktemp("scene") / "lake")
        return figures, render(figures)

    return of


@pytest.fixture(scope="module", params=SCENES)
def rendered(request: pytest.FixtureRequest, drawn: Drawn) -> str:
    """The page of each scene."""
    return drawn(request.param)[1]


@pytest.fixture(scope="module")
def painted(drawn: Drawn) -> Callable[[str], dict[str, bytes]]:
    """The pictures of a scene, by its name."""

    @cache
    def of(name: str) -> dict[str, bytes]:
        return pictures(drawn(name)[0])

    return of


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Of a few days of made-up traffic, in Berlin."""
    lake = Lake(tmp_path_factory.mktemp("home") / "lake")
    days = [on(number) for number in range(6)]
    with EmulatorServer(synthetic_world(days=len(days), users=14)) as server:
        load(server, lake, days)
    return read(lake, None, None, ZoneInfo("Europe/Berlin"))


@pytest.fixture(scope="module")
def page(figures: Figures) -> Page:
    return Page(render(figures))


def test_it_asks_nothing_of_any_network_and_runs_no_script(rendered: str) -> None:
    found = Page(rendered)
    [policy] = [it for it in found.all("meta") if "http-equiv" in it]
    assert policy["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    for tag, attrs in found.elements:
        assert tag not in {"script", "link", "img", "image", "iframe", "object", "use", "base"}
        assert "src" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("href", "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)", found.said("style"))


def test_it_is_read_by_keyboard_and_screen_reader(rendered: str) -> None:
    found = Page(rendered)
    assert found.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert landmark == "title" or len(found.all(landmark)) == 1
    names = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(names) == len(set(names))
    pointed = [attrs["href"][1:] for attrs in found.all("a")]
    assert set(pointed) <= set(names)
    for tag, attrs in found.elements:
        for name in attrs.get("aria-labelledby", "").split():
            assert name in names, f"<{tag}> is labelled by {name}, which is not there"
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    for attrs in found.all("th"):
        assert attrs["scope"] in {"col", "row"}


def test_each_chart_is_an_image_with_a_name_words_and_a_table(rendered: str) -> None:
    found = Page(rendered)
    sides = [attrs["class"] for attrs in found.all("svg")]
    figures = len(found.all("figure"))
    assert figures >= 4
    assert sides == ["wide", "narrow"] * figures
    assert all(attrs["role"] == "img" for attrs in found.all("svg"))
    assert len(found.all("desc")) == 2 * figures
    assert len(found.all("details")) == figures
    for block in re.findall(r"<figure>.*?</figure>\s*<(\w+)", rendered, re.DOTALL):
        assert block == "details"
    assert all(len(text.strip()) > 20 for tag, text in found.texts if tag == "desc")


def test_every_colour_is_the_stylesheets(rendered: str) -> None:
    for chart in re.findall(r"<svg.*?</svg>", rendered, re.DOTALL):
        drawn = re.findall(r'(?:fill|stroke)="([^"]+)"', chart)
        assert {colour for colour in drawn if not colour.startswith("var(--")} <= {
            "none",
            "transparent",
        }
        assert {colour[6:-1] for colour in drawn if colour.startswith("var(")} <= set(COLOURS)


def test_the_tables_hold_the_numbers(page: Page, figures: Figures) -> None:
    head, *rows = page.table("Usage by day")
    assert head[:3] == ["Day", "Status", "Operations"]
    assert len(rows) == len(figures.bars)
    for row, bar in zip(rows, figures.bars, strict=True):
        assert bar.counts is not None
        assert row[1] == bar.known
        assert row[2:5] == [f"{bar.counts.of(name):,}" for name in MEASURES]
    users = page.table("The users that use most")[1:]
    assert [row[1] for row in users] == [f"{one.counts.operations:,}" for one in figures.users.top]
    week = page.table("Operations an hour on average")
    assert len(week) == 25
    assert week[0][1:] == [
        *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ]
    active = page.table("Active users")[1:]
    assert [row[2] for row in active] == [f"{bar.users:,}" for bar in figures.bars]


def test_a_wide_table_scrolls_by_keyboard_and_says_so(page: Page) -> None:
    regions = [attrs for attrs in page.all("div") if attrs.get("class") == "scroll"]
    assert regions
    for region in regions:
        assert (region["role"], region["tabindex"]) == ("region", "0")
        assert region["aria-label"]
    hints = [attrs for attrs in page.all("p") if "more" in attrs.get("class", "").split()]
    assert len(hints) == len(regions)
    assert {attrs["aria-hidden"] for attrs in hints} == {"true"}, "a screen reader needs no hint"


def test_the_headline_says_what_happened_and_where(page: Page, figures: Figures) -> None:
    counts = figures.totals.counts
    assert f"{counts.operations:,} operations" in page.said("p")
    assert "in Europe/Berlin" in page.said("p")
    assert [text for tag, text in page.texts if tag == "dd" and text.strip()][:1] == [
        f"{counts.operations:,}"
    ]
    start, end = figures.period.first, figures.period.last
    assert f"--start {start}" in page.said("code")
    assert end.isoformat() not in page.said("code"), "--end is exclusive"
    assert "--tz Europe/Berlin" in page.said("code")


def test_ids_are_shown_and_do_nothing(drawn: Drawn) -> None:
    _, text = drawn("odd ids")
    page = Page(text)
    assert "<script" not in text
    names = [row[0] for row in page.table("The users that use most")[1:]]
    assert names == [
        *("<script>alert(1)</script>", "</svg></style><img src=http://example.org/x>", "=1+1"),
        *(
            "x" * 66 + "…" + "x" * 33,
            "مستخدم",
            "\\u202eevil\\u202c",
            "a\\u0000b\\u001b[31m\\u000ac",
        ),
        *("{{ 7 * 7 }} datum.value", "(blank user)", '&amp;<b>" onload="alert(1)'),
    ]
    for shown in names:
        assert f" {shown[:20]}" in f" {page.said('text')}"
    assert "3 more users with usage: not listed." in page.said("p")
    assert "x" * 101 not in text


def test_what_is_not_known_is_marked_in_the_charts_and_in_words(drawn: Drawn) -> None:
    _, text = drawn("gaps")
    page = Page(text)
    said = page.said("li")
    assert "1 day is provisional, 16 January 2024: the API may still restate" in said
    assert "1 day is loaded in part, 17 January 2024: only what is loaded counts." in said
    assert "4 days are not loaded, 11 to 13 January 2024 and 15 January 2024: unknown" in said
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(re.findall(r'stroke-dasharray="3,2"', charts[0])) == 2 * len(MEASURES)
    assert "not loaded" in charts[0]
    rows = {row[0]: row for row in page.table("Usage by day")[1:]}
    assert rows["Thu 11 Jan 2024"][1:5] == ["not loaded", "–", "–", "–"]
    assert rows["Wed 17 Jan 2024"][1:3] == ["loaded in part", "0"]
    assert rows["Tue 16 Jan 2024"][1] == "provisional"


def test_a_measure_that_nobody_reports_is_unknown_in_charts_tables_and_words(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    start = START_OF_SCENES
    for width, seconds in (("1h", 3_600), ("1d", DAY)):
        row = dict.fromkeys(USAGE["1h"].schema.names) | {"user_id": "a", "num_items_added": 3}
        row |= {"start_time": start, "end_time": start + seconds}
        plant(lake, f"usage_{width}", [row], on(0), read_at=LATER)
    text = render(read(lake, None, None, UTC))
    page = Page(text)
    assert "made an unknown number of operations, added 3 items and created an" in page.said("p")
    assert "not reported" in page.said("span")
    assert page.table("Usage by hour")[1][2:] == ["–", "3", "–"]
    assert page.table("The users that use most")[1][1:] == ["–", "3", "–", "–"]
    assert page.table("Operations an hour on average")[1][1] == "–"


def test_a_period_before_that_is_not_loaded_is_no_rise_from_zero(drawn: Drawn) -> None:
    page = Page(drawn("one user")[1])
    why = "compared with the period before, 31 December 2023: of its 1 day, none is loaded whole."
    assert f"Nothing is {why}" in page.said("p")
    assert "not compared" not in page.said("dd"), "that is said once"
    assert not re.search("[▲▼]", page.said("span"))


def test_a_rise_is_said_in_signs_and_in_words(tmp_path: Path) -> None:
    lake = loaded(tmp_path / "lake", one_a_day(["a"], range(14)), (LATER, range(14)))
    page = Page(render(read(lake, on(7), on(13), UTC)))
    assert "Compared with 1 to 7 January 2024." in page.said("p")
    assert "77 operations, 175 % more than in the period before." in page.said("p")
    assert "▲ 175 %" in page.said("span")
    assert "the same weekday of the period before" in page.said("span")
    assert page.table("Usage by day")[1][2:] == ["8", "2", "1", "1", "2", "1"]
    assert "= as before" in page.said("span")
    assert page.table("Usage by day")[0][-1] == "Conversations created, before"
    assert page.table("The users that use most")[1][-1] == "▲ 175 %"


def test_the_reconciliation_is_summed_up(tmp_path: Path) -> None:
    world = synthetic_world(days=2, users=5, conversations_per_user_day=2.0)
    lake = Lake(tmp_path / "lake")
    with EmulatorServer(world) as server:
        reader = Reader(server, lake, [on(0), on(1)])
        reader.load()
        reader.sync()
        rows = reader.rows("reconciliation")
    figures = read(lake, None, None, UTC)
    page = Page(render(figures))
    table = page.table("Reported and observed")[1:]
    assert sum(int(row[2].replace(",", "")) for row in table) == len(rows)
    matches = [row for row in table if row[1] == "match"]
    assert sum(int(row[2]) for row in matches) == sum(row["class"] == "match" for row in rows)
    same = sum(row["class"] == "match" for row in rows)
    possible = sum(row["class"] != "not derivable" for row in rows)
    assert f"Of the {possible:,} numbers that can be compared, {same:,} (" in page.said("p")
    assert "No difference is unexplained." in page.said("p")
    assert "reconciliation" in charts_of(figures)


def charts_of(figures: Figures) -> list[str]:
    """The sections of a page that have a chart, and so a picture."""
    return [section.name for section in page_content(figures).sections if section.chart]


@pytest.mark.slow
def test_the_same_days_make_the_same_bytes(
    tmp_path: Path, drawn: Drawn, painted: Callable[[str], dict[str, bytes]]
) -> None:
    _, page = drawn("odd ids")
    again = scene("odd ids", tmp_path / "lake")
    assert render(again) == page
    assert pictures(again) == painted("odd ids")


def sizes(drawn: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert drawn[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", drawn[16:24])
    return int(width), int(height)


@pytest.mark.parametrize("name", ["odd ids", "gaps", "no usage"])
def test_the_pictures_are_the_charts_at_twice_their_size(
    name: str, drawn: Drawn, painted: Callable[[str], dict[str, bytes]]
) -> None:
    figures, text = drawn(name)
    made = painted(name)
    assert [*made] == [f"{section}.png" for section in charts_of(figures)]
    shown = re.findall(r'<svg class="wide" viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert len(made) == len(shown)
    assert {"usage.png", "week.png", "coverage.png", "active-users.png"} <= set(made)
    for picture, (width, height) in zip(made.values(), shown, strict=True):
        wide, high = sizes(picture)
        assert SCALE * float(width) <= wide <= SCALE * (float(width) + 60)
        assert SCALE * float(height) <= high <= SCALE * (float(height) + 160)


@pytest.mark.parametrize("name", ["odd ids", "gaps"])
def test_a_picture_says_what_is_known_of_its_days(
    name: str, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = drawn(name)[0]
    said: list[str] = []

    def finished(chart: object, title: str, words: str) -> str:
        said.append(words)
        return ""

    monkeypatch.setattr("pipeline.report.page.finished", finished)
    monkeypatch.setattr("pipeline.report.page.png", lambda _: b"")
    for only, of in ((EVERYTHING, ""), (Only(user="a"), "Of user a. ")):
        of_part = replace(figures, only=only)
        content = page_content(of_part)
        said.clear()
        pictures(of_part)
        assert len(said) == len(charts_of(of_part))
        for words in said:
            finding, standing = words.split("\n")
            assert finding
            assert standing.startswith(f"{of}{content.about}.")
            assert all(warning in standing for warning in content.warnings)


ODD_PARTS: Final = [
    *(id_ for id_ in ODD_IDS if "\0" not in id_),
    *("it's", "$(date) `date` \\ ! ~", "a  b", "-x", "\u202e'\\1", "\n7"),
]


@pytest.mark.skipif(which("bash") is None, reason="there is no bash")
def test_the_command_of_a_part_is_read_by_a_shell_as_it_was_meant() -> None:
    period = Period(on(0), on(6), ZoneInfo("America/New_York"))
    commands = [
        command(period, Only(user=id_, team=other))
        for id_, other in zip(ODD_PARTS, reversed(ODD_PARTS), strict=True)
    ]
    assert all(one and one.isprintable() for one in commands)
    printed = "\n".join(f"printf '%s\\0' {one}" for one in commands)
    read = finished_process(["bash", "-c", printed]).stdout.split("\0")[:-1]
    whole = ["mka1-usage", "report", "--start", "2024-01-01", "--end", "2024-01-08"]
    assert read == [
        word
        for id_, other in zip(ODD_PARTS, reversed(ODD_PARTS), strict=True)
        for word in [*whole, "--tz", "America/New_York", "--user", id_, "--team", other]
    ]
    assert command(period, Only(user="a\0b")) is None, "which no argument can hold"


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1 to 21, as WCAG 2 defines it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_marks_stand_out_as_aa_asks(scheme: int) -> None:
    colours = {name: both[scheme] for name, both in COLOURS.items()}
    for ground in ("paper", "gap"):
        for text in ("ink", "muted"):
            assert contrast(colours[text], colours[ground]) >= 4.5
    marks: Sequence[str] = [name for name in COLOURS if name not in {"paper", "gap", "grid"}]
    for mark in marks:
        assert contrast(colours[mark], colours["paper"]) >= 3
    for fill in ("known", "late", "undated", "deleted", "unexplained", "underivable"):
        assert contrast(colours[fill], colours["paper"]) >= 4.5, "texts stand on it"
