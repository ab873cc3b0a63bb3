"""Every query that the product prints or documents has one result, whatever client runs it where.

The clients are DuckDB's own, in Python and on the command line, set to a zone by the variable TZ
and by `SET TimeZone`: a process for each zone and client.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from io import BytesIO, StringIO
from pathlib import Path
from typing import Final, NamedTuple

import duckdb_cli
import pytest

from pipeline.alerts.evaluate import evaluate
from pipeline.cli.tour import QUERIES as DEMO
from pipeline.doctor.tables import OPENS as DOCTOR
from pipeline.emulator import EmulatorServer, synthetic_world
from pipeline.export.export import DATABASE, export
from pipeline.lake.catalog import build_catalog
from pipeline.lake.macros import MACROS
from pipeline.lake.store import Lake
from pipeline.pricing.prices import read_prices
from pipeline.query import ad_hoc
from pipeline.timeline import DAY, Window, day_window
from tests.alerts.history import HOUR, START, History, thresholds
from tests.bounded import finished
from tests.documented import blocks
from tests.synced import Reader

ROOT: Final = Path(__file__).parents[1]
ZONES: Final = ("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland")
BEGIN: Final = day_window(date(2024, 1, 30)).start
"""With the two days after it: a month ends among them."""

PRICES: Final = """\
model,valid_from,currency,input,cached,output
meetkai:*,2024-01-01,usd,2.123456789,1,10
meetkai:*,2024-01-31,usd,4,2,20
"""

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MACRO_CALLS: Final = [
    f"from {macro.name}({arguments})"
    for macro in MACROS
    for arguments in (
        ("'1d'", "'1h', tz := 'America/New_York'", "'1mo', tz := 'Asia/Kathmandu'")
        if "width" in macro.parameters
        else ("",)
    )
]
WRITTEN_BY_HAND: Final = [
    "select count(*) from usage_1h where start_time >= '2024-02-01'",
    "select count(*) from usage_1h where start_time >= '2024-02-01T00:00:00Z'",
    "select count(*) from usage_1h where start_time >= timestamp '2024-02-01'",
    "select count(*) from usage_1h where start_time between '2024-01-31' and '2024-02-01'",
    "select count(*) from usage_1h where day = date '2024-02-01'",
    "select count(*) from usage_1h where start_time::date = '2024-02-01'",
    "select count(*) from usage_1h where start_time < utc_now() - interval 7 day",
    "select hour(start_time) as h, sum(num_operations) from usage_1h group by h order by h",
    "select strftime(start_time, '%Y-%m-%d %H') as h, count(*) from usage_1h group by h order by h",
    "select date_trunc('week', start_time) as w, count(*) from usage_1h group by w order by w",
    "select time_bucket(interval 1 day, start_time) as d, count(*) from usage_1h group by all",
    "select day, count(*) from coverage group by day order by day",
    "select epoch(start_time), count(*) from usage_1d group by all order by all",
    "select date_trunc('second', min(created_at)), min(day), max(day) from conversations",
    "select first_seen, last_seen from users order by user_id",
]


def settings(zone: str) -> list[str]:
    """What a client that was started in a zone by TZ is set to: in one of them, to another too."""
    return ["RESET TimeZone", *(["SET TimeZone = 'Asia/Tokyo'"] if zone == "UTC" else [])]


class Asked(NamedTuple):
    """A query, and the file that it is asked of."""

    file: Path
    query: str


def of_pages() -> Iterator[str]:
    """The queries of README and docs: blocks of SQL, and those in commands."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        yield from blocks(text, "sql")
        for block in blocks(text, "bash"):
            yield from re.findall(r'^mka1-usage sql (?:--format \w+ )?"(.+?)"', block, re.MULTILINE)
            yield from re.findall(r'\.duckdb -c "(.+?)"', block)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    """Every query and its file."""
    folder = tmp_path_factory.mktemp("zones")
    world = synthetic_world(start=BEGIN, days=3, users=8, conversations_per_user_day=3)
    window = Window(BEGIN, BEGIN + 3 * DAY)
    home = folder / "home"
    with EmulatorServer(world) as server:
        reader = Reader(server, Lake(home / "lake"), window.days)
        reader.load()
        reader.sync()
    (folder / "prices.csv").write_text(PRICES, encoding="utf-8")
    prices = read_prices(folder / "prices.csv").table
    build_catalog(reader.lake, home / "usage.duckdb", prices=prices)
    export(Lake(home / "lake"), folder / "export", form="duckdb")
    catalog, exported = home / "usage.duckdb", folder / "export" / DATABASE
    found = [Asked(exported if re.search("dim_|fact_", it) else catalog, it) for it in of_pages()]
    found += [Asked(catalog, it) for it in (*MACRO_CALLS, *WRITTEN_BY_HAND, *DEMO, DOCTOR)]
    found += [Asked(folder / "alerts" / "usage.duckdb", it) for it in of_alerts(folder / "alerts")]
    # Of equals, a limit leaves any.
    return [Asked(it.file, re.sub(r"(?i)\blimit \d+", "", it.query)) for it in found]


def of_alerts(home: Path) -> list[str]:
    """What alerts of each kind print: a month of which a day is missing, and its last hours silent,
    after a spike."""
    history = History(days=30)
    history.daily(200, user="u")
    history.use(START + 29 * DAY, 4_000, user="u")
    for hour in range(START + 29 * DAY + HOUR, history.end, HOUR):
        history.counts.pop((hour, "u", "k"), None)
    lake = history.publish(home)
    now = START + 29 * DAY + 2 * HOUR
    kinds = {}
    for moment in (now - HOUR, now + 10 * HOUR, now + 40 * DAY):
        for alert, looked in evaluate(lake, thresholds(), moment).items():
            for finding in looked.findings:
                kinds[alert, finding.subject.split()[0]] = finding.query
    assert {alert for alert, _ in kinds} == {"late", "spike", "zero"}
    return list(kinds.values())


PYTHON: Final = """
import duckdb, json, sys
asked, opened = json.load(sys.stdin), {}
for file, query in asked:
    con = opened.get(file) or opened.setdefault(file, duckdb.connect(file, read_only=True))
    for setting in json.loads(sys.argv[1]):
        con.execute(setting)
        rows = con.sql(query).fetchall()
        cells = [["" if c is None else str(c).lower() for c in row] for row in rows]
        print(json.dumps(cells), flush=True)
"""


def by_python(zone: str, asked: list[Asked]) -> list[list[list[str]]]:
    """The result of each query by each of the zone's settings, in a process of that zone."""
    queries = json.dumps([(str(file), query) for file, query in asked])
    said = output([sys.executable, "-c", PYTHON, json.dumps(settings(zone))], queries, zone)
    return [json.loads(line) for line in said.splitlines()]


MARK: Final = "--mark--"


def by_command_line(zone: str, asked: list[Asked]) -> list[list[list[str]]]:
    """The same by DuckDB's command line."""
    program = Path(duckdb_cli.__file__).with_name("duckdb")
    found: list[list[list[str]]] = []
    for file in sorted({it.file for it in asked}):
        lines = [".mode csv", ".headers off", ".nullvalue ''"]
        for query in (it.query for it in asked if it.file == file):
            for setting in settings(zone):
                lines += [f"{setting};", f"{query.strip().rstrip(';')};", f".print {MARK}"]
        command: list[str | Path] = [program, "-init", os.devnull, "-readonly", "-bail", file]
        said = output(command, "\n".join(lines), zone)
        for part in said.split(f"{MARK}\n")[:-1]:
            found.append([[cell.lower() for cell in row] for row in csv.reader(StringIO(part))])
    return found


def output(command: Sequence[str | Path], given: str, zone: str) -> str:
    """What a program of that time zone prints."""
    return finished(command, text=given, env={**os.environ, "TZ": zone}).stdout


@pytest.mark.slow  # every documented query, by two clients in every time zone
def test_every_query_has_one_result_in_every_client_and_zone(asked: list[Asked]) -> None:
    asked = sorted(asked)
    with ThreadPoolExecutor(2) as pool:
        python = list(pool.map(lambda zone: by_python(zone, asked), ZONES))
        line = list(pool.map(lambda zone: by_command_line(zone, asked), ZONES))
    for number, (file, query) in enumerate(asked):
        expected = python[0][len(settings("UTC")) * number]
        for zone, *found in zip(ZONES, python, line, strict=True):
            for results in found:
                times = len(settings(zone))
                for result in results[times * number : times * (number + 1)]:
                    assert numbers(result) == numbers(expected), (zone, query)
        if file.name == "usage.duckdb":
            out = BytesIO()
            ad_hoc.export(file, Lake(file.parent / "lake"), query, "csv", out)
            rows = list(csv.reader(StringIO(out.getvalue().decode())))[1:]
            assert len(rows) == len(expected), query


def numbers(rows: list[list[str]]) -> list[list[str]]:
    """Rows with numbers as Python writes them (one client has 1.0 where another has 1), in an order
    that is theirs alone: not every query orders what is equal."""
    return sorted([number(cell) for cell in row] for row in rows)


def number(cell: str) -> str:
    try:
        return repr(float(cell))
    except ValueError:
        return cell
