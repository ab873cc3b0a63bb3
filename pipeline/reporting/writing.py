"""A report's files, each whole or not at all.

Belongs here: writing aside and renaming.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from errno import EISDIR
from pathlib import Path


def write(files: Mapping[Path, bytes]) -> None:
    """Write all files, or none of them if one cannot be written. Folders must be there.

    OSError where one cannot be written.
    """
    aside: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            if path.is_dir():
                raise IsADirectoryError(EISDIR, "is a folder: name a file in it", str(path))
            try:
                handle, name = tempfile.mkstemp(prefix=".mka1-usage-", dir=path.parent)
            except OSError as error:  # which names the file aside
                raise OSError(error.errno, error.strerror, str(path)) from None
            aside[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        for path, written in aside.items():
            written.replace(path)
    finally:
        for written in aside.values():
            with suppress(OSError):
                written.unlink(missing_ok=True)
