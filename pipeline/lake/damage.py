"""Which files of a version are not what was published? The cheap test that readers can afford.

Belongs here: what is wrong with a file, in words. Does not belong here: links, folders and tables
that contradict each other (`pipeline.lake.verification`), or what a reader does about it.

A file is damaged that the version's record lists and that is not there, has another size, has a
footer that can't be read, or other columns than the contract's. `thorough` also reads all of it:
its bytes are those that were published. Where the record itself can't be read, the files that are
there are tested by themselves. Whoever leaves out a damaged file says so: what remains is less than
was published.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.files import ContractError, check_contract
from pipeline.lake.ledger import FileRecord, digest, read_record
from pipeline.lake.schemas import DATASETS
from pipeline.words import count


def damaged(version: Path, *, thorough: bool = False) -> dict[str, str]:
    """What is wrong with which file of a version, by the name of its dataset; empty: nothing.

    `removed, with 3 rows`, `cut short: 10 of 900 bytes`, `changed: ...`, `can't be read: ...`.
    The cheap test takes well below a millisecond a file; `thorough` takes as long as reading it.
    A version whose folder is gone has lost every table. Raises nothing for a file that is damaged.
    """
    if not version.is_dir():
        return dict.fromkeys(DATASETS, "removed, with the whole day")
    try:
        recorded = read_record(version).files
    except (OSError, ValueError):
        recorded = {}
    found: dict[str, str] = {}
    for name in DATASETS:
        what = wrong_with(version / f"{name}.parquet", recorded.get(name), thorough=thorough)
        if what is not None:
            found[name] = what
    return found


def wrong_with(path: Path, recorded: FileRecord | None, *, thorough: bool) -> str | None:
    """What is wrong with one file, called as its dataset is; None where nothing is.

    Without a record, a file that is not there is none that is missing, and none has wrong bytes.
    """
    try:
        size = path.stat().st_size
        if recorded is not None and size < recorded.bytes:
            return f"cut short: {size:,} of {count(recorded.bytes, 'byte')}"
        if recorded is not None and (
            size > recorded.bytes or (thorough and digest(path) != recorded.sha256)
        ):
            return "changed: its bytes are not those that were published"
        check_contract(DATASETS[path.stem], path)
        if recorded is None and thorough:
            pq.ParquetFile(path).read()
    except FileNotFoundError:
        return None if recorded is None else f"removed, with {count(recorded.rows, 'row')}"
    except ContractError as error:
        return f"changed: {error}"
    except (OSError, pa.ArrowException) as error:
        return f"can't be read: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
