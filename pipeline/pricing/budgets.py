"""`budgets.csv`: how much a user, a key, a team or everybody may use in a day, a week or a month.

scope,id,period,tz,measure,amount,thresholds
all,,month,Europe/Berlin,cost,500,80 95 100
user,ada,day,,tokens,2000000,
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, cast, get_args

from pipeline.pricing.hand_written import Files, HandWrittenError, Row, rows
from pipeline.pricing.prices import PriceList, load_prices
from pipeline.timeline import AnyWidth
from pipeline.zones import zone

Scope = Literal["user", "key", "team", "all"]
Period = Literal["day", "week", "month"]
Measure = Literal["operations", "tokens", "cost"]
WIDTHS: Final[dict[Period, AnyWidth]] = {"day": "1d", "week": "1w", "month": "1mo"}

_NEEDED: Final = ("scope", "period", "measure", "amount")
_OPTIONAL: Final = ("id", "tz", "thresholds")
_THRESHOLDS: Final = (80, 100)
_MOST_PERCENT: Final = 1_000
_DECIMALS: Final = 9
_BELOW: Final = 10**15


@dataclass(frozen=True, slots=True)
class Budget:
    """One line. `id` is empty for all; `thresholds` are percent of the amount, in order."""

    line: int
    scope: Scope
    id: str
    period: Period
    tz: str
    measure: Measure
    amount: Decimal
    thresholds: Sequence[int]
    currency: str | None = None
    """Of a cost; None where there are no prices."""
    name: str | None = None
    """What people call whose it is."""

    @property
    def called(self) -> str:
        """Whose it is: the id, with a name before it where there is one."""
        return self.id if self.name is None else f"{self.name} ({self.id})"

    @property
    def subject(self) -> tuple[str, ...]:
        """What tells it from other budgets, whichever line it stands in."""
        return (
            self.scope,
            self.id,
            self.period,
            self.tz,
            self.measure,
            f"{self.amount.normalize():f}",
        )


def read_budgets(path: Path, prices: PriceList, *, needed: bool = False) -> list[Budget]:
    """The budgets in a file, in order; none where there is no file, unless it is `needed`.

    Raises HandWrittenError, one line that names file, line and column; also for a budget of a cost
    where the prices are in several currencies, which have no sum.
    """
    found: dict[tuple[str, ...], Budget] = {}
    for row in rows(path, _NEEDED, _OPTIONAL, must_exist=needed):
        budget = _budget(row, prices)
        before = found.setdefault(budget.subject, budget)
        if before is not budget:
            raise HandWrittenError(
                f"{path}, line {budget.line}: it is the same budget as in line {before.line}"
            )
    return list(found.values())


def load_budgets(files: Files, prices: PriceList) -> list[Budget]:
    """The budgets that the settings name; HandWrittenError."""
    return read_budgets(files.budgets, prices, needed=files.set_budgets is not None)


def load_with_prices(files: Files) -> tuple[list[Budget], PriceList]:
    """The budgets, and the price list, which is read for budgets of a cost alone.

    So a wrong price list is no error where no budget needs it. HandWrittenError.
    """
    none = PriceList(files.prices)
    budgets = load_budgets(files, none)
    if not any(budget.measure == "cost" for budget in budgets):
        return budgets, none
    prices = load_prices(files)
    return load_budgets(files, prices), prices


def _budget(row: Row, prices: PriceList) -> Budget:
    scope = cast("Scope", row.one_of("scope", *get_args(Scope)))
    if scope == "all" and row.cells["id"]:
        raise HandWrittenError(f"{row.place('id')}: leave it empty where the scope is all")
    period = cast("Period", row.one_of("period", *get_args(Period)))
    tz = row.cells["tz"] or "UTC"
    try:
        zone(tz)
    except ValueError as error:
        raise HandWrittenError(f"{row.place('tz')}: {error}") from None
    measure = cast("Measure", row.one_of("measure", *get_args(Measure)))
    if measure == "cost" and len(prices.currencies) > 1:
        raise row.wrong(
            "measure",
            f": prices are in {' and '.join(prices.currencies)}, which have no sum ({prices.path})",
        )
    amount = row.decimal("amount", _DECIMALS if measure == "cost" else 0, _BELOW)
    if not amount:
        raise row.wrong("amount", ": it must be more than 0")
    return Budget(
        row.number,
        scope,
        "" if scope == "all" else row.text("id"),
        period,
        tz,
        measure,
        amount,
        _thresholds(row),
        next(iter(prices.currencies), None) if measure == "cost" else None,
    )


def _thresholds(row: Row) -> tuple[int, ...]:
    words = row.cells["thresholds"].split()
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word[:9]) <= _MOST_PERCENT):
            raise row.wrong(
                "thresholds", f": write whole percents from 1 to {_MOST_PERCENT:,}, such as 80 95"
            )
    found = sorted({int(word) for word in words})
    if len(found) != len(words):
        raise row.wrong("thresholds", ": one stands there twice")
    return tuple(found) or _THRESHOLDS
