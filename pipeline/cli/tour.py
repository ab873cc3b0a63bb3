"""`mka1-usage demo`: a made-up week through the whole job, and what to try with it.

It has a home folder of its own, `<home>/demo`, so that made-up usage never mixes with real.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from shlex import quote
from shutil import which
from typing import Final

import duckdb
from rich.console import Console
from rich.table import Table

from pipeline import emulator
from pipeline.emulator import EmulatorServer, secret_of, synthetic_world
from pipeline.lake.engine import openable
from pipeline.lake.snapshot import Snapshot
from pipeline.lake.store import Lake, private_folder
from pipeline.messages import count
from pipeline.orchestration.runs import Outcome, run_conversations, run_days
from pipeline.pricing.budget_states import NAMES, BudgetState, budget_states
from pipeline.pricing.budget_table import print_budgets
from pipeline.pricing.budgets import load_budgets
from pipeline.pricing.prices import load_prices
from pipeline.settings import Settings, load_settings
from pipeline.terminal import short
from pipeline.timeline import day_window

FIRST: Final = date(2024, 1, 1)
LAST: Final = date(2024, 1, 7)

_ENDPOINTS: Final = ("conversations", "responses", "costs")
_PRICES: Final = "prices.csv"
_BUDGETS: Final = "budgets.csv"
_BUDGET_LINES: Final = """\
scope,id,period,tz,measure,amount,thresholds
all,,month,UTC,cost,80,80 100
key,key_web,week,UTC,tokens,14000000,80 95
"""
_BUDGETS_AT: Final = date(2024, 1, 6)
_BY_DAY: Final = """
    SELECT strftime(start_time, '%a %d %b') AS "day (UTC)", count(DISTINCT user_id) AS users,
      sum(num_conversations_created)::BIGINT AS conversations,
      sum(num_items_added)::BIGINT AS items,
      sum(num_operations)::BIGINT AS operations
    FROM usage_1d GROUP BY start_time ORDER BY start_time
"""
_TOP_USERS: Final = """
    SELECT coalesce(user_id, '(no user)') AS user, count(DISTINCT start_time) AS "days active",
      sum(num_items_added)::BIGINT AS items, sum(num_operations)::BIGINT AS operations
    FROM usage_1d GROUP BY user_id ORDER BY operations DESC, user LIMIT 5
"""


_BY_MODEL: Final = """
    SELECT coalesce(model, '(no model)') AS model,
      sum(num_responses)::BIGINT AS responses,
      sum(cost)::DECIMAL(18, 2) AS "cost (USD)",
      sum(num_unpriced)::BIGINT AS "without price"
    FROM cost_by('1d') GROUP BY model ORDER BY sum(cost) DESC NULLS LAST, model
"""
_FAILED: Final = """
    SELECT coalesce(model, '(no model)') AS model,
      sum(total_tokens)::BIGINT AS tokens,
      sum(num_failed)::BIGINT AS failed,
      (100 * sum(num_failed) / sum(num_responses))::DECIMAL(5, 1) AS "failed (%)"
    FROM tokens_1d GROUP BY model ORDER BY tokens DESC, model
"""


QUERIES: Final = (_BY_DAY, _TOP_USERS, _BY_MODEL, _FAILED)
"""What it shows: the same in any client, as all queries of the catalog are."""


def run_demo(progress: Console, out: Console) -> Outcome:
    """Load the week and, if all went well, print what came of it to `out`."""
    with EmulatorServer(synthetic_world()) as server:
        settings = demo_settings(server, load_settings().home / "demo", FIRST)
        outcome = load_demo(settings, FIRST, LAST, progress)
        requests = len(server.requests)
    if outcome.failures:
        return outcome
    out.print()
    with (
        openable(settings.catalog) as readable,
        closing(duckdb.connect(str(readable), read_only=True)) as con,
    ):
        _print(out, con, "Usage by day", _BY_DAY)
        _print(out, con, "Who uses most", _TOP_USERS)
        _print(out, con, "What responses cost, by the prices in prices.csv", _BY_MODEL)
        _print(out, con, "What fails", _FAILED)
    out.print(f"[bold]Budgets, as they stood on {_BUDGETS_AT}[/bold]", highlight=False)
    print_budgets(_budgets(settings), out)
    out.print()
    out.print(
        f"{count(requests, 'request')}, {count(outcome.checks, 'check')} passed, among them "
        "that every day sums to the API's own total.\n",
        highlight=False,
    )
    out.print(_what_next(settings), markup=False, highlight=False, soft_wrap=True)
    return outcome


def demo_settings(server: EmulatorServer, home: Path, first: date) -> Settings:
    """The settings with which made-up days, from `first` on, are loaded into a home of their own.

    Its price list and budgets are written there.
    """
    settings = load_settings(
        base_url=server.base_url,
        api_key=server.api_key,
        home=home,
        first_day=first,
        requests_per_second=1_000,
        set_dagster_home=home / "dagster",
        api_keys={key: secret_of(key) for key in server.world.keys},
        endpoints=_ENDPOINTS,
        api_key_id=None,
        set_prices=home / _PRICES,
        set_budgets=home / _BUDGETS,
        shared_catalog=None,  # what is made up never gets into a lake that others read
        shared_warehouse=None,
    )
    private_folder(home)
    settings.prices.write_bytes(Path(emulator.__file__).with_name(_PRICES).read_bytes())
    settings.budgets.write_text(_BUDGET_LINES, encoding="utf-8")
    return settings


def load_demo(settings: Settings, first: date, last: date, progress: Console) -> Outcome:
    """Load usage of the days and, if all went well, their conversations."""
    loaded = run_days(settings, first, last, progress)
    if loaded.failures:
        return loaded
    listed = run_conversations(settings, first, last, progress)
    warnings = (*loaded.warnings, *listed.warnings)
    return Outcome(listed.failures, warnings, loaded.checks + listed.checks)


def _budgets(settings: Settings) -> Sequence[BudgetState]:
    lake, prices = Lake(settings.lake, memory=settings.memory), load_prices(settings)
    asked, now = load_budgets(settings, prices), float(day_window(_BUDGETS_AT).start)
    snapshot = Snapshot(lake, names=NAMES)
    return budget_states(snapshot, lake, asked, prices, now, settings.pseudonyms)


def _print(out: Console, con: duckdb.DuckDBPyConnection, title: str, query: str) -> None:
    relation = con.sql(query)
    table = Table(title=title, title_justify="left", title_style="bold")
    for name, kind in zip(relation.columns, relation.types, strict=True):
        table.add_column(name, justify="left" if str(kind) == "VARCHAR" else "right")
    for row in relation.fetchall():
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    out.print(table)
    out.print()


def _what_next(settings: Settings) -> str:
    home, catalog = quote(short(settings.home)), quote(short(settings.catalog))
    # The commands as they can be typed here, whether the environment is activated or not.
    here = "" if which("mka1-usage") else f"{quote(short(Path(sys.executable).parent))}/"
    return f"""\
What to try next:
  export MKA1_USAGE_HOME={home}
  {here}mka1-usage sql "select * from usage_1h order by num_operations desc limit 10"
  {here}mka1-usage report --start {FIRST} --end {LAST + timedelta(days=1)}
  {here}mka1-usage budgets --at {_BUDGETS_AT}
  {here}duckdb -readonly {catalog}
  {here}mka1-usage dagster --demo

With an account of your own:
  unset MKA1_USAGE_HOME; export MKA1_API_KEY=...
  {here}mka1-usage run"""
