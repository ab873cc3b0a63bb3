"""What a user or key costs, far above its own baseline."""

from __future__ import annotations

import duckdb

from pipeline.alerts.alert import Evaluation
from pipeline.alerts.spikes import cost_in, spikes
from pipeline.lake import engine
from pipeline.names.file import NOBODY, Names
from pipeline.pricing.costs import bind_costs_of_tokens
from pipeline.pricing.prices import PriceList
from pipeline.thresholds import MOST, Thresholds
from pipeline.timeline import DAY, SECONDS, Width, Window


def costly(
    con: duckdb.DuckDBPyConnection,
    width: Width,
    start: int,
    thresholds: Thresholds,
    prices: PriceList,
    names: Names = NOBODY,
) -> Evaluation:
    """Who costs far more than usual in the bucket of `width` that starts at `start`.

    `con` has the views `coverage` and `counted`, which is the table of tokens of that width. Each
    currency is judged by itself.
    """
    seconds = SECONDS[width]
    first = start - thresholds.baseline_days * DAY
    windows = [Window(at, at + seconds) for at in range(first, start + seconds, seconds)]
    con.execute("CREATE OR REPLACE TEMP VIEW tokens_rows AS FROM counted")
    bind_costs_of_tokens(con, prices.table, windows)
    found: list[Evaluation] = []
    for currency in prices.currencies:
        amounts = con.sql(engine.sql("alert_costs"), params={"currency": currency})
        con.register("amounts", amounts.to_arrow_table())
        found.append(spikes(con, width, start, thresholds, cost_in(currency), names))
    findings = [finding for one in found for finding in one.findings]
    more = sum(one.more for one in found) + len(findings[MOST:])
    return Evaluation(findings[:MOST], more)
