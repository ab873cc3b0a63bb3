"""A price list is read as it is written, or refused in one line that names the place."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.lake.catalog import PRICES
from pipeline.pricing.hand_written import HandWrittenError
from pipeline.pricing.prices import read_prices
from tests.pricing.spent import HEADER, write_prices

GOOD = "large,2024-01-01,usd,2.5,1.25,10,"


def refusal(path: Path) -> str:
    with pytest.raises(HandWrittenError) as caught:
        read_prices(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_prices_are_per_token_and_what_is_left_empty_is_the_other_price(tmp_path: Path) -> None:
    path = write_prices(
        tmp_path, "gpt-*,2024-01-01,USD,2.5,1.25,10,\n*,2024-02-01,eur,999999999.999999999,,0.5,7"
    )
    first, second = read_prices(path).table.to_pylist()
    assert [first["model"], second["model"]] == ["*", "gpt-*"]
    assert (first["input"], first["cached"]) == (Decimal("999.999999999999999"),) * 2
    assert (first["output"], first["reasoning"]) == (Decimal("0.0000005"), Decimal("0.000007"))
    assert second["cached"] == Decimal("0.00000125")
    assert second["output"] == second["reasoning"] == Decimal("0.00001")
    assert [first["currency"], second["currency"]] == ["eur", "usd"]
    assert [first["like_pattern"], second["like_pattern"]] == ["%", "gpt-%"]
    assert read_prices(path).table.schema == PRICES


def test_a_price_counts_until_the_next_one_of_its_model(tmp_path: Path) -> None:
    path = write_prices(
        tmp_path, "m,2024-03-01,usd,3,,3,\n\nm,2024-01-01,usd,1,,1,\n,,,,,,\nm,2024-02-01,usd,2,,2,"
    )
    spans = [(it.valid_from.month, it.valid_to, it.input) for it in read_prices(path).rows]
    assert spans == [
        (1, date(2024, 2, 1), Decimal(1)),
        (2, date(2024, 3, 1), Decimal(2)),
        (3, None, Decimal(3)),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_columns_come_in_any_order_and_two_may_be_absent(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "prices.csv"
    lines = 'output, input ,currency,model,valid_from\r\n2,1,usd,"a,ü_%!",2024-01-01\r\n'
    path.write_bytes(lines.encode(encoding))
    [price] = read_prices(path).rows
    assert (price.model, price.like_pattern) == ("a,ü_%!", "a,ü!_!%!!")
    prices = [price.input, price.cached, price.output, price.reasoning]
    assert prices == [Decimal(1), Decimal(1), Decimal(2), Decimal(2)]


def test_no_file_is_a_list_without_prices_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    assert read_prices(path).table.num_rows == 0
    with pytest.raises(HandWrittenError, match=r"prices\.csv cannot be read: No such file"):
        read_prices(path, needed=True)
    path.mkdir()
    assert "cannot be read: Is a directory" in refusal(path)


@pytest.mark.parametrize(
    ("line", "column", "complaint"),
    [
        (",2024-01-01,usd,1,,1,", "model", "is empty"),
        ("a\x00b,2024-01-01,usd,1,,1,", "model", "characters that cannot be seen"),
        ("a\u202eb,2024-01-01,usd,1,,1,", "model", "characters that cannot be seen"),
        ("a**,2024-01-01,usd,1,,1,", "model", "one * stands for any characters already"),
        ("m,2023-02-29,usd,1,,1,", "valid_from", "write a day such as 2024-01-31"),
        ("m,20240101,usd,1,,1,", "valid_from", "write a day"),
        ("m,01.01.2024,usd,1,,1,", "valid_from", "write a day"),
        ("m,,usd,1,,1,", "valid_from", "write a day"),
        ("m,2024-01-01,,1,,1,", "currency", "write three letters such as usd"),
        ("m,2024-01-01,us,1,,1,", "currency", "write three letters"),
        ("m,2024-01-01,$,1,,1,", "currency", "write three letters"),
        ("m,2024-01-01,usd,,,1,", "input", "is empty: write a number"),
        ("m,2024-01-01,usd,1,,,", "output", "is empty: write a number"),
        ("m,2024-01-01,usd,-1,,1,", "input", "must not be negative"),
        ("m,2024-01-01,usd,nan,,1,", "input", "write a plain decimal number such as 2.50"),
        ("m,2024-01-01,usd,1,,Infinity,", "output", "write a plain decimal"),
        ("m,2024-01-01,usd,1e3,,1,", "input", "write a plain decimal"),
        ('m,2024-01-01,usd,"1,5",,1,', "input", "write a plain decimal"),
        ("m,2024-01-01,usd,$1,,1,", "input", "write a plain decimal"),
        ("m,2024-01-01,usd,.5,,1,", "input", "write a plain decimal"),
        ("m,2024-01-01,usd,٣,,1,", "input", "write a plain decimal"),
        ("m,2024-01-01,usd,1_0,,1,", "input", "write a plain decimal"),
        ("m,2024-01-01,usd,1,1000000000,1,", "cached", "must be less than 1,000,000,000"),
        ("m,2024-01-01,usd,1,,1,0.0000000001", "reasoning", "is refused, not rounded"),
    ],
)
def test_a_wrong_cell_is_one_line_with_its_place(
    tmp_path: Path, line: str, column: str, complaint: str
) -> None:
    message = refusal(write_prices(tmp_path, f"{GOOD}\n{line}"))
    assert message.startswith(f", line 3, column {column}: ")
    assert complaint in message


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            "m,2024-01-01,usd,1,,1,\nm,2024-01-01,usd,2,,1,",
            ", line 3, column valid_from: 'm' has a",
        ),
        (
            "m,2024-01-01,usd,1,,1,\nm,2024-02-01,eur,2,,1,",
            ", line 3, column currency: 'm' has the",
        ),
        (
            "m,2024-02-01,eur,1,,1,\nm,2024-01-01,usd,2,,1,",
            ", line 3, column currency: 'm' has the",
        ),
        ("m,2024-01-01,usd,1", ", line 2: it has 4 columns, and the header has 7"),
        ("m,2024-01-01,usd,1,2,3,4,5", ", line 2: it has 8 columns"),
        ('"m,2024-01-01', ", line 2: a quotation mark begins a text that does not end"),
    ],
)
def test_wrong_lines_are_one_line_with_their_place(
    tmp_path: Path, lines: str, complaint: str
) -> None:
    assert refusal(write_prices(tmp_path, lines)).startswith(complaint)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", ", line 1: there is no header: the columns are model, valid_from"),
        (b"\n" + HEADER.encode(), ", line 1: there is no header"),
        (b"model;valid_from", ", line 1: the column currency is missing: the columns are"),
        (b"model,price", ", line 1: 'price' is no column"),
        (b"model,valid_from,currency,output", ", line 1: the column input is missing"),
        (b"model,valid_from,model", ", line 1: the column model stands there twice"),
        (
            HEADER.encode() + b"\nm\x81,",
            ", line 2: it is not Windows-1252 text: save it as CSV UTF-8",
        ),
        (
            HEADER.encode("utf-16-le"),
            " cannot be read: it seems to be UTF-16 text without a byte order mark: save",
        ),
    ],
)
def test_a_file_that_is_no_price_list_says_so(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    assert refusal(path).startswith(complaint)
