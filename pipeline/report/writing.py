"""A report's files, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from errno import EISDIR
from pathlib import Path

from pipeline.lake.store import replacing


def write(files: Mapping[Path, bytes]) -> None:
    """Write all files, or none of them if one cannot be written. Folders must be there.

    OSError where one cannot be written.
    """
    with ExitStack() as stack:
        for path, content in files.items():
            if path.is_dir():
                raise IsADirectoryError(EISDIR, "is a folder: name a file in it", str(path))
            try:
                aside = stack.enter_context(replacing(path))
            except OSError as error:  # which names the file aside
                raise OSError(error.errno, error.strerror, str(path)) from None
            aside.write_bytes(content)
