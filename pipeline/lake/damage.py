"""Which files of a version are not what was published? The cheap test that readers can afford.

A file is damaged that the manifest lists and that is not there, has another size, a footer that
can't be read or has another number of rows, or other columns than the contract's. `thorough` also
reads all of it. Where the manifest itself can't be read, the files that are there are tested by
themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.files import ContractError, check_contract, read_through
from pipeline.lake.manifest import FileEntry, digest, read_manifest
from pipeline.lake.schemas import DATASETS
from pipeline.lake.store import MANIFEST
from pipeline.messages import count


def damaged(
    version: Path, *, thorough: bool = False, names: Collection[str] = DATASETS.keys()
) -> dict[str, str]:
    """What is wrong with which file of a version, by the name of its dataset; empty: nothing.

    `removed, with 3 rows`, `cut short: 10 of 900 bytes`, `changed: ...`, `can't be read: ...`.
    The cheap test takes well below a millisecond a file, and less the next time; `thorough` takes
    as long as reading it. A version whose folder is gone has lost every table. Raises nothing for a
    file that is damaged.
    """
    if not version.is_dir():
        return dict.fromkeys(names, "removed, with the whole day")
    recorded = _recorded(version)
    found: dict[str, str] = {}
    for name in names:
        what = wrong_with(version / f"{name}.parquet", recorded.get(name), thorough=thorough)
        if what is not None:
            found[name] = what
    return found


def wrong_with(path: Path, recorded: FileEntry | None, *, thorough: bool) -> str | None:
    """What is wrong with one file, called as its dataset is; None where nothing is.

    Without a record, a file that is not there is none that is missing, and none has wrong bytes.
    """
    try:
        found = path.stat()
        if recorded is not None and found.st_size < recorded.bytes:
            return f"cut short: {found.st_size:,} of {count(recorded.bytes, 'byte')}"
        if recorded is not None and (
            found.st_size > recorded.bytes or (thorough and digest(path) != recorded.sha256)
        ):
            return "changed: its bytes are not those that were published"
        if recorded is None and thorough:
            read_through(path)
    except FileNotFoundError:
        return None if recorded is None else f"removed, with {count(recorded.rows, 'row')}"
    except (OSError, pa.ArrowException) as error:
        return f"can't be read: {_why(error, 'its rows are garbage')}"
    rows = None if recorded is None else recorded.rows
    return _wrong_footer(path, found.st_ino, found.st_mtime_ns, found.st_size, rows)


def is_sound(path: Path | None) -> bool:
    """Whether a file is there that can be opened and has its dataset's columns."""
    return path is not None and path.is_file() and wrong_with(path, None, thorough=False) is None


def _recorded(version: Path) -> dict[str, FileEntry]:
    """What was recorded of a version's files: nothing where that can't be read."""
    try:
        found = (version / MANIFEST).stat()
        return _read_once(version, found.st_ino, found.st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=8_192)
def _read_once(version: Path, _inode: int, _changed: int) -> dict[str, FileEntry]:
    return read_manifest(version).files


@lru_cache(maxsize=65_536)
def _wrong_footer(
    path: Path, _inode: int, _changed: int, _size: int, recorded: int | None
) -> str | None:
    """What is wrong with a footer; each is read once, by what tells one file from another."""
    try:
        check_contract(DATASETS[path.stem], path)
        rows = pq.read_metadata(path).num_rows
        if rows < 0 or recorded not in (None, rows):
            return "changed: its footer has another number of rows"
    except ContractError as error:
        return f"changed: {error}"
    except (OSError, pa.ArrowException) as error:
        return f"can't be read: {_why(error, 'its footer is none of a Parquet file')}"
    return None


def _why(error: Exception, garbage: str) -> str:
    """What the disk says, or what of the file is `garbage`, in words of ours."""
    return getattr(error, "strerror", None) or garbage
