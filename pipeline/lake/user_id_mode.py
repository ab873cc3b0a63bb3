"""Whose ids a lake holds: users as the API names them, or pseudonyms of one key; never both.

<lake>/.identity.json    {"pseudonyms": "<fingerprint of the key>"}, or null for ids as they are
"""

from __future__ import annotations

import json
from typing import Final

from pipeline.lake.store import Lake, replacing

_MARKER: Final = ".identity.json"
_FIELD: Final = "pseudonyms"


class UserIdModeError(Exception):
    """The lake's user ids are not of the kind that is asked for. One line, with what to do."""


def claim(lake: Lake, fingerprint: str | None) -> None:
    """Let only ids of one kind into the lake: pseudonyms of the key with `fingerprint`, or real
    ones (None).

    Raises UserIdModeError where it holds, or has been begun with, another kind.
    """
    marker = lake.root / _MARKER
    with lake.lock("identity"):
        check(lake, fingerprint)
        if not marker.exists():
            with replacing(marker) as aside:
                aside.write_text(json.dumps({_FIELD: fingerprint}), encoding="utf-8")


def claimed(lake: Lake) -> tuple[str | None] | None:
    """Whose ids the lake holds, as `claim` was told; None where it has not been begun."""
    try:
        return (json.loads((lake.root / _MARKER).read_bytes())[_FIELD],)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check(lake: Lake, fingerprint: str | None) -> None:
    """Raise UserIdModeError where the lake holds other ids; one without anything holds none."""
    marker = lake.root / _MARKER
    try:
        written = json.loads(marker.read_bytes())[_FIELD]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileNotFoundError) and not lake.all_days():
            return
        raise UserIdModeError(
            f"{marker} does not say whose ids the lake holds: put back the file that was there, or "
            "set MKA1_USAGE_HOME to another folder"
        ) from None
    if written != fingerprint:
        former = (
            "unset MKA1_USAGE_PSEUDONYM_KEY" if written is None else "set the key of then again"
        )
        raise UserIdModeError(
            f"{lake.root} was written {_words(written)}, and now MKA1_USAGE_PSEUDONYM_KEY "
            f"{'is not set' if fingerprint is None else f'is a key {_named(fingerprint)}'}: "
            f"{former}, or set MKA1_USAGE_HOME to another folder"
        )


def _words(written: object) -> str:
    return "with user ids as they are" if written is None else f"with a key {_named(written)}"


def _named(fingerprint: object) -> str:
    return f"of fingerprint {fingerprint}"
