"""Publishing that ends at a step, as a kill ends it.

Belongs here: ending what goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pipeline.lake import commit

_STEPS = ("_commit", "_make_current", "_link")
"""What changes which version of a day counts, or where it is found."""


@contextmanager
def publishing_ends(steps: int | None) -> Iterator[None]:
    """Publishing ends after so many steps, with KeyboardInterrupt; None: it goes on."""
    with pytest.MonkeyPatch.context() as patch:
        left = -1 if steps is None else steps

        def stop(step: Callable[..., None]) -> Callable[..., None]:
            def stopping(*arguments: object) -> None:
                nonlocal left
                if not left:
                    raise KeyboardInterrupt
                left -= 1
                step(*arguments)

            return stopping

        for name in _STEPS:
            patch.setattr(commit, name, stop(getattr(commit, name)))
        yield
