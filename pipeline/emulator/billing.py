"""What the organisation is billed: tokens by the emulator's own prices, and work without a meter.

It counts in whole billionths of a dollar, from the events themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.emulator.counting import JsonObject
from pipeline.emulator.metering import UsageLedgers
from pipeline.emulator.prices import CURRENCY, price_of
from pipeline.emulator.queries import ApiError, Query

ORG_ID = "org_emulator"
"""The one organisation, as `group_by=org_id` reports it and `org_ids` may name it."""
COST_GROUPS = ("model", "api_key_id", "team_id", "external_user_id", "org_id")
BY_TOKENS = ("completions", "responses", "embeddings")
"""The usage endpoints whose tokens are billed."""
_NANO = 10**9


@dataclass(frozen=True, slots=True)
class Charge:
    """Billable work that no usage endpoint counts, such as the call of a tool, or storage.

    `at` is Unix seconds, UTC; `cost_nano` whole billionths of a dollar, below 0 for a credit.
    """

    at: float
    user_id: str | None
    api_key_id: str | None
    cost_nano: int
    model: str | None = None


@dataclass(frozen=True, slots=True)
class _Cost:
    model: str | None
    api_key_id: str | None
    external_user_id: str | None
    nano: int

    @property
    def team_id(self) -> str | None:
        """The team that a key belongs to."""
        return self.api_key_id and f"team_of_{self.api_key_id}"

    @property
    def org_id(self) -> str:
        """The one organisation."""
        return ORG_ID


class Billing(UsageLedgers):
    """The ledgers, and what they cost."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._charges: list[Charge] = []
        self._charged_later: list[Callable[[], Iterable[Charge]]] = []

    def charge(self, charge: Charge) -> None:
        """Bill something that is no usage."""
        with self._lock:
            self._charges.append(charge)

    def charge_later(self, make: Callable[[], Iterable[Charge]]) -> None:
        """Bill what `make` returns, as if it had been charged now; called when first needed."""
        with self._lock:
            self._charged_later.append(make)

    def costs(self, start_time: int, end_time: int, group_by: Sequence[str] = ()) -> JsonObject:
        """The costs of a window, in the shape of usage/costs; a group that cost nothing has no row.

        Rows stand by model, key, team, user and organisation, null first. Raises ValueError for an
        unknown group.
        """
        if unknown := [name for name in group_by if name not in COST_GROUPS]:
            raise ValueError(f"costs are known by {', '.join(COST_GROUPS)}, not {unknown}")
        groups: dict[tuple[str | None, ...], int] = {}
        for cost in self._costs(start_time, end_time):
            group = tuple(getattr(cost, n) if n in group_by else None for n in COST_GROUPS)
            groups[group] = groups.get(group, 0) + cost.nano
        rows = [
            {
                **dict(zip(COST_GROUPS, group, strict=True)),
                "cost": nano / _NANO,
                "cost_nano": str(nano),
            }
            for group, nano in sorted(
                groups.items(), key=lambda row: [(name is not None, name or "") for name in row[0]]
            )
            if nano
        ]
        total = sum(groups.values())
        return {
            "object": "usage.costs",
            "currency": CURRENCY,
            "start_time": start_time,
            "end_time": end_time,
            "group_by": list(group_by),
            "data": rows,
            "total_cost": total / _NANO,
            "total_cost_nano": str(total),
        }

    def _costs(self, start: int, end: int) -> Iterator[_Cost]:
        """What each thing of a window costs that counts by now."""
        with self._lock:
            now = self.clock()
            for make in self._charged_later:
                self._charges += make()
            self._charged_later = []
            for endpoint in BY_TOKENS:
                for entry in self._ledger(endpoint).counted(now, start, end):
                    user, key, model = entry.group[:3]
                    _, input_, cached, output, reasoning, _ = entry.counts
                    if price := price_of(model, entry.second):
                        nano = price.of(input_, cached, output, reasoning)
                        yield _Cost(model, key, user, nano)
            for charge in self._charges:
                if start <= charge.at < end and charge.at <= now:
                    yield _Cost(charge.model, charge.api_key_id, charge.user_id, charge.cost_nano)


def costs_answer(world: Billing, raw: bytes) -> JsonObject:
    """The answer of usage/costs to a query string. Raises ApiError 400 for what isn't allowed."""
    query = Query(raw, single=("start_time", "end_time", "org_id"), lists=("group_by",))
    start, end = query.integer("start_time"), query.integer("end_time")
    if start is None or end is None:
        raise ApiError(400, "start_time and end_time are required")
    if end <= start:
        raise ApiError(400, f"end_time must be after start_time: {end} is not after {start}")
    group_by = query.several("group_by", COST_GROUPS)
    if query.text("org_id") in {None, ORG_ID}:
        return world.costs(start, end, group_by)
    return {**world.costs(start, start, group_by), "end_time": end}
