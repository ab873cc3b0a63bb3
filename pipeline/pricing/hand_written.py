"""CSV files that people write by hand, or save from a spreadsheet: each cell with its place."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from pipeline.messages import count
from pipeline.pseudonyms import Pseudonyms

_NO_BREAKS: Final = re.compile("[\u00a0\u2007\u202f]")
_JOINERS: Final = re.compile("(?<=\\S)[\u200c\u200d](?=\\S)")
_DECIMAL: Final = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?")
_SEPARATORS: Final = {",": "comma", ";": "semicolon", "\t": "tab"}
"""What stands between cells: Excel takes the second where the comma is the decimal sign, and the
last in its "Unicode text"."""
_ENCODINGS: Final = {"charma": "Windows-1252", "utf-8": "UTF-8", "utf-16": "UTF-16"}
"""By the first letters of what Python calls those that are tried."""
_WORKBOOKS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""What .xlsx and .xls begin with."""
_SAVE: Final = "save it as CSV UTF-8"


class HandWrittenError(ValueError):
    """A file is not what it has to be. One line: the place, what stands there, what to do."""


class Files(Protocol):
    """Where the files are, and what user ids in them are written as: the settings say so.

    The file that `set_…` names has to be there.
    """

    @property
    def prices(self) -> Path: ...
    @property
    def set_prices(self) -> Path | None: ...
    @property
    def budgets(self) -> Path: ...
    @property
    def set_budgets(self) -> Path | None: ...
    @property
    def pseudonyms(self) -> Pseudonyms | None: ...


class Row(NamedTuple):
    """One line of a file. `cells` has a text, without the spaces around it, for each column."""

    path: Path
    number: int
    cells: Mapping[str, str]

    def place(self, column: str) -> str:
        """Where a cell stands, as messages begin."""
        return f"{self.path}, line {self.number}, column {column}"

    def wrong(self, column: str, reason: str) -> HandWrittenError:
        """The error of a cell: `reason` goes on with what stands in it."""
        cell = self.cells[column]
        shown = f"{column} is {cell!r}" if cell else f"{column} is empty"
        return HandWrittenError(f"{self.place(column)}: {shown}{reason}")

    def one_of(self, column: str, *choices: str) -> str:
        """The choice in a cell; HandWrittenError for anything else."""
        cell = self.cells[column]
        if cell not in choices:
            raise self.wrong(column, f": write {', '.join(choices[:-1])} or {choices[-1]}")
        return cell

    def text(self, column: str) -> str:
        """A text of characters that can be seen; HandWrittenError for others, and for none.

        It is not quoted: the id of a user may be what is not to be written anywhere.
        """
        cell = self.cells[column]
        self._require_seen(column, cell)
        return cell

    def label(self, column: str) -> str:
        """What people call something: as `text`, but with spaces for those that do not break, and
        with the joiners in it that Persian, Indic scripts and emoji are written with."""
        cell = _NO_BREAKS.sub(" ", self.cells[column]).strip()
        self._require_seen(column, _JOINERS.sub("", cell))
        return cell

    def _require_seen(self, column: str, text: str) -> None:
        if not text:
            raise HandWrittenError(f"{self.place(column)}: it is empty")
        if not text.isprintable():
            raise HandWrittenError(f"{self.place(column)}: it holds characters that cannot be seen")

    def decimal(self, column: str, decimals: int, below: int) -> Decimal:
        """A number from 0, less than `below`, with at most so many decimals: nothing is rounded."""
        cell = self.cells[column]
        if not cell:
            raise self.wrong(column, ": write a number")
        if re.fullmatch(r"-\s*[0-9.]+", cell):
            raise self.wrong(column, ": it must not be negative")
        if not _DECIMAL.fullmatch(cell):
            raise self.wrong(column, ": write a plain decimal number such as 2.50")
        number = Decimal(cell)
        if number >= below:
            raise self.wrong(column, f": it must be less than {below:,}")
        if len(cell.partition(".")[2].rstrip("0")) > decimals:
            places = f"more than {count(decimals, 'decimal')}" if decimals else "decimals"
            raise self.wrong(column, f": it has {places}, so it is refused, not rounded")
        return number


def rows(
    path: Path,
    needed: Sequence[str],
    optional: Sequence[str],
    *,
    must_exist: bool,
    quoted: bool = True,
) -> Iterator[Row]:
    """The lines of a CSV whose header has these columns in any order.

    It may be as spreadsheets save it: UTF-8 with or without a BOM, UTF-16 with one, or
    Windows-1252; with commas, semicolons or tabs between the cells, and a line `sep=;` before all.
    An optional column that is absent is empty in each line. Lines without a text are passed over. A
    file that does not exist has no lines, unless it must. Raises HandWrittenError, also where the
    file can't be read; where it is not `quoted`, without a word of the file, which may be an id.
    """
    content = _content(path, must_exist)
    if content is None:
        return
    separator, before, content = _separator(content)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    read = before
    try:
        header = _header(path, before + 1, next(reader, []), needed, optional, quoted=quoted)
        read = before + reader.line_num
        columns = (*header, *(name for name in optional if name not in header))
        absent = [""] * (len(columns) - len(header))
        for line in reader:
            read = before + reader.line_num
            cells = [cell.strip() for cell in line]
            if not any(cells):
                continue  # spreadsheets save empty lines
            if len(cells) != len(header):
                raise HandWrittenError(
                    f"{path}, line {read}: it has {count(len(cells), 'column')}, and the header "
                    f"has {len(header)} (quote a text that holds a {_SEPARATORS[separator]})"
                )
            yield Row(path, read, dict(zip(columns, cells + absent, strict=True)))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise HandWrittenError(
                f"{path}, line {read + 1}: a quotation mark begins a text that does not end"
            ) from None
        raise HandWrittenError(f"{path}, line {before + reader.line_num}: {error}") from None


def cells(path: Path) -> Iterator[str]:
    """Each cell of a file that is there and can be read, whatever its columns are."""
    try:
        content = _content(path, must_exist=False)
        separator, _, content = _separator(content or "")
        for row in csv.reader(io.StringIO(content, newline=""), delimiter=separator):
            yield from (cell.strip() for cell in row)
    except (HandWrittenError, csv.Error):
        return


def _separator(content: str) -> tuple[str, int, str]:
    """What stands between the cells of the header, how many lines come before it, and the text from
    there on."""
    if said := re.match(r'"?sep=([,;\t])"?[,;\t]*\r?\n', content):
        return said[1], 1, content[said.end() :]
    first = content.partition("\n")[0]
    return max(_SEPARATORS, key=first.count), 0, content


def _content(path: Path, must_exist: bool) -> str | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return None
        raise HandWrittenError(f"{path} cannot be read: {error.strerror or error}") from None
    if content.startswith(_WORKBOOKS):
        raise HandWrittenError(f"{path} cannot be read: it seems to be an Excel workbook: {_SAVE}")
    try:
        text = _decoded(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        encoding = _ENCODINGS[error.encoding[:6]]
        raise HandWrittenError(f"{path}, line {line}: it is not {encoding} text: {_SAVE}") from None
    if "\0" in text.partition("\n")[0]:
        raise HandWrittenError(
            f"{path} cannot be read: it seems to be UTF-16 text without a byte order mark: {_SAVE}"
        )
    return text


def _decoded(content: bytes) -> str:
    """The text of a file. UnicodeDecodeError where it is of no encoding that is read."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Letters beyond ASCII that are whole say that it is UTF-8, with some that are not.
        whole = content.decode("utf-8-sig", errors="ignore")
        if content.startswith(codecs.BOM_UTF8) or not whole.isascii():
            raise
    return content.decode("cp1252")


def _header(
    path: Path,
    line: int,
    cells: Sequence[str],
    needed: Sequence[str],
    optional: Sequence[str],
    *,
    quoted: bool,
) -> list[str]:
    header = [cell.strip() for cell in cells]
    known = [*needed, *optional]
    must = f"the columns are {', '.join(known)}, with commas between them"
    if not any(header):
        raise HandWrittenError(f"{path}, line {line}: there is no header: {must}")
    for place, name in enumerate(header):
        if not name:
            raise HandWrittenError(
                f"{path}, line {line}: column {place + 1} has no name: delete it: {must}"
            )
        if name not in known:
            what = repr(name) if quoted else f"number {place + 1}"
            raise HandWrittenError(f"{path}, line {line}: {what} is no column: {must}")
        if name in header[:place]:
            raise HandWrittenError(f"{path}, line {line}: the column {name} stands there twice")
    for name in needed:
        if name not in header:
            raise HandWrittenError(f"{path}, line {line}: the column {name} is missing: {must}")
    return header
