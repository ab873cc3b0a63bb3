"""What every command says of a lake that is damaged or empty: one sentence and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.cli.exit_codes import FAILED, fail
from pipeline.terminal import say, short

if TYPE_CHECKING:  # a command that needs no lake waits for none
    from pipeline.lake.store import Lake


def nothing_loaded(root: Path) -> NoReturn:
    """End where there is nothing in the lake at `root` to answer from."""
    fail(
        f"nothing is loaded in {short(root)}: load days with `mka1-usage run`, or set "
        "MKA1_USAGE_HOME to the folder that has them",
        FAILED,
    )


def left_out(sentence: str) -> None:
    """Say that an answer is over the rest."""
    say(f"warning: {sentence}")


@contextmanager
def reading(lake: Lake) -> Iterator[None]:
    """End with the file to blame where the lake can't be read, or with what was too little."""
    import duckdb
    import pyarrow as pa

    from pipeline.lake.files import ContractError
    from pipeline.lake.shortage import shortage
    from pipeline.lake.snapshot import reason

    try:
        yield
    except (duckdb.Error, pa.ArrowException, ContractError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own; pyarrow raises one without a number for bytes that are garbage
        said = f"{short(lake.root)} cannot be read: {reason(lake, error)}"
        fail(shortage(error) or said, FAILED)
