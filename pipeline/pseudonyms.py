"""User ids that name nobody: a keyed hash in place of the id, the same one wherever it stands.

HMAC-SHA256 over the id as UTF-8, of which 128 bits are kept: who lacks the key can neither find the
id behind a pseudonym nor find out whether a pseudonym is that of an id they know.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import Final, Protocol, overload

from pydantic import SecretStr

PSEUDONYM: Final = re.compile(r"p_[0-9a-f]{32}")
"""What a pseudonym looks like."""
_USER: Final = "mka1-usage user id\0"
_FINGERPRINT: Final = "mka1-usage fingerprint\0"
_REMEMBERED: Final = 1 << 17
"""So many pseudonyms are kept in memory: the same ids come bucket after bucket."""


class UserIds(Protocol):
    """What users are called in all that is written, where that is not what the API calls them."""

    @overload
    def of(self, user_id: str) -> str: ...
    @overload
    def of(self, user_id: str | None) -> str | None: ...
    def hides(self, user_id: str | None, said: str) -> bool:
        """Whether what else is `said` of a user (JSON), which may name people, is left out."""
        ...


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What turns a user id into its pseudonym. Neither the key nor an id is ever shown."""

    key: SecretStr
    _known: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    @overload
    def of(self, user_id: str) -> str: ...
    @overload
    def of(self, user_id: str | None) -> str | None: ...
    def of(self, user_id: str | None) -> str | None:
        """The pseudonym, `p_` and 32 hex digits; None, which is no user, stays None."""
        if user_id is None:
            return None
        pseudonym = self._known.get(user_id)
        if pseudonym is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            pseudonym = self._known[user_id] = f"p_{self._hash(_USER + user_id)[:32]}"
        return pseudonym

    def hides(self, user_id: str | None, said: str) -> bool:
        """Whether what else is said of a user is left out: of all, since any may be named."""
        return True

    @property
    def fingerprint(self) -> str:
        """16 hex digits that differ from key to key, and nothing of the key itself."""
        return self._hash(_FINGERPRINT)[:16]

    def _hash(self, text: str) -> str:
        return hmac.digest(self.key.get_secret_value().encode(), text.encode(), "sha256").hex()
