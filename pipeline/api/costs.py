"""GET /api/v1/llm/usage/costs: what the API bills, as its published client has it.

Belongs here: the question, and an answer decoded. Money is whole billionths of the currency, given
as text: it is never rounded, and the number for display beside it is not read (docs/api.md,
"Costs").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, get_args

import msgspec

from pipeline.api.client import Answer, Client
from pipeline.api.fields import (
    LARGEST,
    Envelope,
    check_group_by,
    check_seconds,
    check_text,
    check_window,
    decoded,
    on_behalf_of_header,
    plain_integer,
    require_page,
)
from pipeline.api.unicode import Note, as_sent, unnoted

PATH: Final = "/api/v1/llm/usage/costs"

CostGroup = Literal["model", "api_key_id", "team_id", "external_user_id", "org_id"]
COST_GROUPS: Final[tuple[CostGroup, ...]] = get_args(CostGroup)

_NANO: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NULL: Final = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class CostsQuery:
    """One question about costs of `[start_time, end_time)`, Unix seconds, UTC.

    InvalidQuery where a value breaks the contract or could not be sent as it is.
    """

    start_time: int
    end_time: int
    group_by: Sequence[CostGroup] = ()
    org_id: str | None = None
    on_behalf_of: str | None = None

    def __post_init__(self) -> None:
        check_seconds("end_time", self.end_time)
        check_window(self.start_time, self.end_time)
        check_group_by(self.group_by, COST_GROUPS)
        check_text("org_id", None if self.org_id is None else as_sent(self.org_id))
        on_behalf_of_header(self.on_behalf_of)

    def params(self) -> list[tuple[str, str]]:
        """The query string's pairs; `group_by` is repeated."""
        pairs = [("start_time", str(self.start_time)), ("end_time", str(self.end_time))]
        if self.org_id is not None:
            pairs.append(("org_id", as_sent(self.org_id)))
        return [*pairs, *(("group_by", group) for group in self.group_by)]


class CostRow(msgspec.Struct, frozen=True, gc=False):
    """What one group cost, in billionths of the currency; credits are below 0.

    A field that is not grouped by is None, and so is one that the API can't name: work without a
    model, a call without a key.
    """

    model: str | None
    api_key_id: str | None
    team_id: str | None
    external_user_id: str | None
    org_id: str | None
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of `[start_time, end_time)`. `total_nano` is the API's own sum, not ours.

    `currency` is None where the API does not say it.
    """

    currency: str | None
    start_time: int
    end_time: int
    rows: list[CostRow]
    total_nano: int


class _Row(msgspec.Struct, gc=False):
    model: str | None = None
    api_key_id: str | None = None
    team_id: str | None = None
    external_user_id: str | None = None
    org_id: str | None = None
    cost_nano: msgspec.Raw = _NULL


class _Body(Envelope):
    data: list[_Row] | None = None
    currency: str | None = None
    start_time: msgspec.Raw = _NULL
    end_time: msgspec.Raw = _NULL
    group_by: list[str] | None = None
    total_cost_nano: msgspec.Raw = _NULL


_decoder: Final = msgspec.json.Decoder(_Body)
_integer: Final = msgspec.json.Decoder(int)
_text: Final = msgspec.json.Decoder(str)


async def get_costs(client: Client, query: CostsQuery) -> Answer[Costs]:
    """The costs of a window. Raises what `Client.get` raises, and ShapeError."""
    headers = on_behalf_of_header(query.on_behalf_of)
    note = partial(client.odd_text.add, f"GET {PATH}")
    decode = partial(decode_costs, query=query, note=note)
    return await client.get(PATH, query.params(), decode, headers)


def decode_costs(body: bytes, query: CostsQuery, note: Note = unnoted) -> Costs:
    """Costs from their JSON. MalformedBody where it is no JSON.

    ShapeError where they are no costs, or not those that were asked for: of another window, or
    without one of the groups.
    """
    return decoded(partial(_decode, query=query), body, "costs", 2, note)


def _decode(body: bytes, query: CostsQuery) -> Costs:
    page = _decoder.decode(body)
    require_page(page, page.data, body)
    start = _second(page.start_time, "start_time")
    end = _second(page.end_time, "end_time")
    if (start, end) != (query.start_time, query.end_time):
        raise msgspec.ValidationError(
            f"they are of [{start}, {end}), asked for was [{query.start_time}, {query.end_time})"
        )
    for group in query.group_by:
        if page.group_by is not None and group not in page.group_by:
            raise msgspec.ValidationError(f"they are not grouped by {group}, as was asked for")
    rows = [
        CostRow(
            row.model,
            row.api_key_id,
            row.team_id,
            row.external_user_id,
            row.org_id,
            _nano(row.cost_nano, f"data[{place}].cost_nano"),
        )
        for place, row in enumerate(page.data or ())
    ]
    return Costs(page.currency, start, end, rows, _nano(page.total_cost_nano, "total_cost_nano"))


def _second(raw: msgspec.Raw, name: str) -> int:
    try:
        return _integer.decode(plain_integer(raw))
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(f"{error} - at `{name}`") from None


def _nano(raw: msgspec.Raw, name: str) -> int:
    """Billionths of a currency. msgspec.ValidationError for what is not exactly some."""
    try:
        text = _text.decode(raw)
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(f"{error}, digits in quotes - at `{name}`") from None
    if _NANO.fullmatch(text) and -LARGEST - 1 <= (nano := int(text)) <= LARGEST:
        return nano
    raise msgspec.ValidationError(
        "Expected the digits of a whole number of billionths, from -2^63 to 2^63-1, which is not "
        f"rounded - at `{name}`"
    )
