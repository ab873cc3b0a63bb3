"""Tables that fit a terminal: what matters stays whole, and what is left out is named."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pipeline.fitting import by_importance, fitting, print_fitting

BUCKET = ["start_time", "end_time", "user_id", "api_key_id", "num_items_added", "num_operations"]


def importance(named: set[str], constant: set[str]) -> list[str]:
    return by_importance(BUCKET, constant, named)


@pytest.mark.parametrize(
    ("named", "constant", "order"),
    [
        (
            set[str](),
            set[str](),
            "end_time num_items_added num_operations api_key_id user_id start_time",
        ),
        (
            {"num_operations"},
            {"api_key_id"},
            "end_time num_items_added api_key_id user_id start_time num_operations",
        ),
    ],
    ids=["nothing is known", "asked for, and always the same"],
)
def test_what_says_least_is_left_out_first(named: set[str], constant: set[str], order: str) -> None:
    assert importance(named, constant) == order.split()


def test_columns_keep_their_order_and_one_always_stays() -> None:
    stay, hidden = fitting(BUCKET, importance(set(), set()), lambda stay: len(stay) <= 3)
    assert (stay, hidden) == (["start_time", "user_id", "api_key_id"], [BUCKET[1], *BUCKET[4:]])
    assert fitting(BUCKET, BUCKET, lambda _: False)[0] == [BUCKET[-1]]


def printed(width: int, user: str = "user_0000") -> str:
    screen = StringIO()
    out = Console(file=screen, width=width, color_system=None)
    columns = ["day", "user_id", "measure", "reported", "observed", "difference"]
    cells = ["2024-01-04", user, "num_conversations_created", "266", "256", "10"]
    numbers = {"reported", "observed", "difference"}
    print_fitting(
        out, "The worst", numbers, columns, [[Text(it) for it in cells]], ("observed", "reported")
    )
    return screen.getvalue()


def test_a_table_that_fits_is_whole() -> None:
    assert "observed" in printed(120)
    assert "more column" not in printed(120)


@pytest.mark.parametrize("user", ["user_0000", "käthe.müller@example.org", "ユーザー" * 9])
def test_a_narrow_terminal_gets_the_columns_that_matter_and_is_told_of_the_others(
    user: str,
) -> None:
    text = printed(72, user)
    assert max(map(cell_len, text.splitlines())) <= 72
    assert "2 more columns: reported, observed; `| cat` behind the command shows all" in text
    assert "2024-01-04" in text
    assert "difference" in text
    assert "num_conversations_created" in text


@pytest.mark.parametrize("width", [80, 72, 66, 60])
def test_no_column_is_cut_off(width: int) -> None:
    table = [line for line in printed(width, "u" * 40).splitlines() if line[:1] in "┏┃┡│└"]
    assert {line[-1] for line in table} == set("┓┃┩│┘")
    assert max(map(cell_len, table)) <= width
