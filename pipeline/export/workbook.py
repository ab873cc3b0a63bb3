"""All tables as one Excel workbook: a sheet a table, and two before them that say what it is.

A sheet ends after MOST_ROWS rows, so a longer table goes on in a further one. Memory is a row at a
time, whatever a table has: rows go to files in the folder of the workbook until it is complete.
Equal tables make equal bytes.

Texts are texts: none is computed, a link, or a number. Times and dates are Excel's own, which know
no zone: they are UTC. Numbers are doubles, as in every spreadsheet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
from xlsxwriter.exceptions import FileCreateError

from pipeline.export.dictionary import TYPES
from pipeline.export.files import MOST_ROWS
from pipeline.export.rows import Lacking
from pipeline.export.tables import Labels, Table, ids_of
from pipeline.lake.schemas import Column
from pipeline.messages import be, count
from pipeline.query.ad_hoc import FORMULA
from pipeline.timeline import DAY, iso

NO_LABELS: Final[Labels] = {}
MOST_LETTERS: Final = 32_767
"""UTF-16 units that a cell holds."""

_WIDEST: Final = 40
"""Letters of a column of texts, at most."""
_NUMBER: Final = 20
"""Letters of a column of numbers or times: 15 digits with a sign and a point, or a second."""
_DAY: Final = DAY * 1_000_000
"""Microseconds."""
_FIRST_DAY: Final = 25_569
"""The number that Excel has for 1 January 1970."""
_BATCH: Final = 8_192
"""Rows that are turned into Python objects at a time."""
_MADE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""When a workbook says that it was made: equal tables make equal bytes."""
_SAMPLE: Final = 200
"""Rows that the width of a column goes by."""
_FORMULA: Final = re.compile(FORMULA)
_FORMATS: Final[Mapping[pa.DataType, str]] = {
    pa.timestamp("us"): "yyyy-mm-dd hh:mm:ss",
    pa.date32(): "yyyy-mm-dd",
    pa.int64(): "0",
    # LibreOffice shows some booleans as 1 and 0; Excel goes by its language, whatever stands here.
    pa.bool_(): '"TRUE";;"FALSE"',
}
_MONEY: Final = "0.00#######"
_READING: Final = {
    "Time zone": "UTC, for every day, date and time in this workbook",
    "Empty cells": "not known, or none, as the sheet Columns says: never 0",
    "Numbers": "spreadsheets keep 15 digits; exports in other formats have all",
}


class About(NamedTuple):
    """What the first sheet says of an export: its days, which of them are not all there, notes."""

    days: Sequence[date]
    lacking: Lacking
    notes: Sequence[str]


class _Content(NamedTuple):
    """A table to write: its Parquet file, how many rows that has, and the names of its sheets."""

    table: Table
    file: Path
    rows: int

    @property
    def sheets(self) -> list[str]:
        """`usage_1m`, `usage_1m (2)`, …"""
        number = max(1, -(-self.rows // MOST_ROWS))
        return [self.table.name, *(f"{self.table.name} ({one})" for one in range(2, number + 1))]


def write_workbook(
    tables: Mapping[str, tuple[Table, Path]], about: About, path: Path, labels: Labels = NO_LABELS
) -> Iterator[str]:
    """Write the Parquet files of tables as one workbook; gives notes on what does not fit as it is:
    a table that needs several sheets, texts that no cell holds whole.

    Columns of names that a table has (`with_names`) and its file has not are filled from `labels`.
    OSError where it can't be written.
    """
    contents = [
        _Content(table, file, pq.read_metadata(file).num_rows) for table, file in tables.values()
    ]
    book = xlsxwriter.Workbook(
        str(path), {"constant_memory": True, "tmpdir": str(path.parent), "use_zip64": True}
    )
    book.set_properties({"created": _MADE, "title": "MKA1 usage"})
    _write_about(book, contents, about)
    _write_columns(book, contents)
    for content in contents:
        cut = _write_table(book, content, labels)
        name, rows, sheets = content.table.name, content.rows, content.sheets
        if sheets[1:]:
            yield (
                f"{name} has {count(rows, 'row')}, and a sheet ends at {MOST_ROWS:,}: it is in "
                f"{len(sheets)} sheets; export fewer days (--start, --end) or wider buckets "
                "(--table) for less"
            )
        if cut:
            yield (
                f"{count(cut, 'text')} of {name} {be(cut)} cut at {MOST_LETTERS:,} characters, "
                "which is all that a cell holds: whole in the other formats"
            )
    try:
        book.close()
    except FileCreateError as error:
        raise error.args[0] from None  # the disk's own


def _write_about(book: Any, contents: Sequence[_Content], about: About) -> None:
    """The first sheet: what this is, of when, what is missing, and which sheets there are."""
    sheet = _add_sheet(book, "About")
    sheet.hide_gridlines(2)
    for column, width in enumerate((24, 12, 58, 120)):
        sheet.set_column(column, column, width)
    bold, head = book.add_format({"bold": True}), _head(book)
    sheet.write_string(0, 0, "MKA1 usage", book.add_format({"bold": True, "font_size": 16}))
    sheet.write_string(1, 0, "Usage of the MKA1 API, written by mka1-usage export.")
    row = 3
    for name, text in _facts(about):
        sheet.write_string(row, 0, name, bold)
        sheet.write_string(row, 1, text)
        row += 1
    row += 1
    whole = book.add_format({"num_format": "#,##0"})
    apart = book.add_format({"indent": 1})  # from the numbers
    heads = {"sheet": head, "rows": _head(book, align="right")}
    for column, name in enumerate(("sheet", "rows", "one row per", "what it has")):
        sheet.write_string(row, column, name, heads.get(name) or _head(book, indent=1))
    for content in contents:
        row += 1
        sheet.write_string(row, 0, ", ".join(content.sheets))
        sheet.write_number(row, 1, content.rows, whole)
        sheet.write_string(row, 2, content.table.grain, apart)
        sheet.write_string(row, 3, content.table.description, apart)


def _facts(about: About) -> Iterator[tuple[str, str]]:
    """What the first sheet says, line by line."""
    yield "Period", f"{about.days[0]} to {about.days[-1]}, whole days"
    yield "Complete through", iso(about.lacking.complete_through(about.days))
    for name, days in {"not loaded": "none", **about.lacking.words}.items():
        what, _, why = name.partition(", ")
        yield f"{what[0].upper()}{what[1:]}", f"{days} ({why})" if why else days
    for note in about.notes:
        yield "Note", note
    yield from _READING.items()


def _write_columns(book: Any, contents: Sequence[_Content]) -> None:
    """The second sheet: what every column means."""
    sheet = _add_sheet(book, "Columns")
    sheet.repeat_rows(0)
    for column, width in enumerate((18, 26, 20, 100)):
        sheet.set_column(column, column, width)
    sheet.freeze_panes(1, 0)
    lines = [
        (one.table.name, column.name, TYPES[column.type], column.description)
        for one in contents
        for column in one.table.columns
    ]
    sheet.autofilter(0, 0, len(lines), 3)
    for row, line in enumerate([("table", "column", "type", "meaning"), *lines]):
        for column, text in enumerate(line):
            sheet.write_string(row, column, text, None if row else _head(book))


def _add_sheet(book: Any, name: str) -> Any:
    """A sheet that is printed a page wide."""
    sheet = book.add_worksheet(name)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    return sheet


def _head(book: Any, **more: Any) -> Any:
    return book.add_format({"bold": True, "bottom": 1, **more})


def _write_table(book: Any, content: _Content, labels: Labels) -> int:
    """Write a table's rows, in as many sheets as that takes; returns how many texts are cut."""
    columns = content.table.columns
    cells = _Cells(book)
    with pq.ParquetFile(content.file) as file:
        frames = (
            _labelled(pl.DataFrame(batch), content.table, labels)
            for batch in file.iter_batches(_BATCH)
        )
        first = next(frames, pl.DataFrame(content.table.schema.empty_table()))
        widths = _widths(columns, first)
        rows = chain.from_iterable(
            _as_numbers(frame).iter_rows() for frame in chain([first], frames)
        )
        left = content.rows
        for name in content.sheets:
            sheet = _add_sheet(book, name)
            sheet.repeat_rows(0)
            sheet.freeze_panes(1, 0)
            sheet.autofilter(0, 0, min(left, MOST_ROWS), len(columns) - 1)
            for place, (column, width) in enumerate(zip(columns, widths, strict=True)):
                sheet.set_column(place, place, width, cells.format_of(column.type))
                sheet.write_string(0, place, column.name, cells.head_of(column.type))
            for row, values in enumerate(islice(rows, MOST_ROWS), 1):
                for place, value in enumerate(values):
                    if value is not None:
                        cells.write(sheet, row, place, value)
            left -= MOST_ROWS
    return cells.cut


class _Cells:
    """How the cells of one table are written, and how many texts of it were cut."""

    def __init__(self, book: Any) -> None:
        self.cut = 0
        self._head, self._head_of_texts = _head(book, align="right"), _head(book, indent=1)
        self._text = book.add_format({"indent": 1})
        self._quoted = book.add_format({"indent": 1, "quote_prefix": True})
        self._formats = {
            text: book.add_format({"num_format": text}) for text in (*_FORMATS.values(), _MONEY)
        }

    def head_of(self, kind: pa.DataType) -> Any:
        """How the name of a column of that type is shown: above its values."""
        return self._head_of_texts if pa.types.is_string(kind) else self._head

    def format_of(self, kind: pa.DataType) -> Any:
        """How a column of that type is shown; None: as it comes."""
        if pa.types.is_string(kind):
            return self._text
        return self._formats.get(_MONEY if pa.types.is_decimal(kind) else _FORMATS.get(kind, ""))

    def write(self, sheet: Any, row: int, column: int, value: Any) -> None:
        """Write what is no text as its column is shown, and a text as nothing but a text."""
        if isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif not isinstance(value, str):
            sheet.write_number(row, column, value)
        else:
            # It would be written as XML: xlsxwriter takes it for a text with formats in it.
            text = f"'{value}" if value.startswith("<r>") else value
            # Whoever edits a cell would have it computed.
            shown = self._quoted if _FORMULA.match(text) else None
            self.cut += sheet.write_string(row, column, text, shown) != 0


def _labelled(frame: pl.DataFrame, table: Table, labels: Labels) -> pl.DataFrame:
    """The columns of a table, those of names from the ids that they stand behind."""
    lacking = {name: ids_of(name) for name in table.schema.names if name not in frame.columns}
    return frame.with_columns(
        pl.col(ids)
        .replace_strict(labels[ids], default=pl.col(ids).cast(pl.String), return_dtype=pl.String)
        .alias(name)
        for name, ids in lacking.items()
        if ids is not None
    ).select(table.schema.names)


def _as_numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """Dates and times as Excel numbers them, and money as the doubles that it has."""
    days = cs.date().cast(pl.Int32) + _FIRST_DAY
    moments = cs.datetime().dt.epoch("us") / _DAY + _FIRST_DAY
    return frame.with_columns(days, moments, cs.decimal().cast(pl.Float64))


def _widths(columns: Sequence[Column], frame: pl.DataFrame) -> list[int]:
    """How wide columns are, in letters: names, the first texts, and any number or time fit."""
    texts = frame.head(_SAMPLE).select(cs.string().str.len_chars().max())
    longest = {name: texts[name].item() or 0 for name in texts.columns}
    return [
        max(
            len(column.name) + 4,
            min(longest[column.name] + 2, _WIDEST) if column.name in longest else _NUMBER,
        )
        for column in columns
    ]
