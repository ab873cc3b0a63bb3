"""Who is behind a pseudonym, in memory and for as long as a sync takes.

The lake knows pseudonyms only, and no pseudonym leads back. But the API is asked on behalf of real
users: so 1d buckets of usage say first who they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from pipeline.api import Client, usage_of_days
from pipeline.async_runner import run_async
from pipeline.pseudonyms import Pseudonyms


@dataclass(frozen=True, slots=True)
class PseudonymResolver:
    """The users as the lake knows them. `connect` makes a client with the key for usage."""

    pseudonyms: Pseudonyms
    connect: Callable[[], Client]

    def real_ids(self, days: Sequence[date]) -> dict[str, str]:
        """The user id behind each pseudonym with usage on `days`. Raises ApiError."""
        return run_async(self._request(days))

    async def _request(self, days: Sequence[date]) -> dict[str, str]:
        found: dict[str, str] = {}
        async with self.connect() as client:
            async for bucket in usage_of_days(client, days):
                for result in bucket.results:
                    pseudonym = self.pseudonyms.of(result.user_id)
                    if pseudonym is not None and result.user_id is not None:
                        found[pseudonym] = result.user_id
        return found
