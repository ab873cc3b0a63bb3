"""When a request is tried again, after how long a wait, and when it is given up.

Belongs here: which statuses are worth another try, backoff, `Retry-After`, the budget of one
request, and the error at its end. docs/api.md, "Retries", has the table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from pipeline.api.errors import QuotaExhausted, Unavailable
from pipeline.messages import count

_PASSES: Final = frozenset({408, 421, 425, 429})
"""Statuses below 500 that pass. Of those that gateways made up, 5xx alone are known to pass."""
_STAYS: Final = frozenset({501, 505, 511})
"""Statuses from 500 on that stay until somebody changes something: the server does not know the
method or this HTTP (RFC 9110), or the network wants somebody to sign in first (RFC 6585)."""

_REASON: Final = 120
"""Characters of a reason that a message quotes."""

_LONGEST_MEANT: Final = 25 * 3_600.0
"""Seconds. Quotas last a day at most (docs/api.md, Quotas), and a local day can have 25 hours."""


class RetryableError(Exception):
    """One try failed in a way that another may not. `retry_after` is the server's own figure."""

    def __init__(
        self, came_back: str, retry_after: float | None = None, *, rate_limited: bool = False
    ) -> None:
        super().__init__(came_back)
        self.retry_after = retry_after
        self.rate_limited = rate_limited

    def giving_up(self, asked: str, tries: int) -> QuotaExhausted | Unavailable:
        """The error to end with, after `tries` tries of `asked`."""
        times = count(tries, "try")
        if self.rate_limited:
            when = (
                "later" if self.retry_after is None else f"in {self.retry_after:,.0f} s, as it says"
            )
            return QuotaExhausted(
                f"{asked} was answered {self} after {times}: a quota of this key is spent. "
                f"Try again {when}.",
                self.retry_after,
            )
        return Unavailable(
            f"{asked} failed after {times}; the last one brought {self}. "
            "Nothing was published from it; run again when the API is well."
        )


@dataclass(frozen=True, slots=True)
class Retry:
    """A try failed, and another one follows. As text it is a message for a log or a person."""

    reason: str
    seconds: float
    """Until the next try."""

    def __str__(self) -> str:
        reason = self.reason if len(self.reason) <= _REASON else self.reason[:_REASON] + "…"
        return f"retrying: {reason}; next try in {max(self.seconds, 1):.0f} s"


def worth_another_try(status: int) -> bool:
    """Whether a GET that was answered with `status` may be answered otherwise soon."""
    return status in _PASSES or (status >= 500 and status not in _STAYS)


def retrying(
    budget: float,
    attempts: int,
    longest_wait: float,
    sleep: Callable[[float], Awaitable[None]],
    on_retry: Callable[[Retry], None],
) -> AsyncRetrying:
    """A loop over the tries of one request; its last RetryableError is raised. Times are seconds.

    `on_retry` is called before each wait.

    Waits are jittered exponential backoff, or `Retry-After` where that is longer; none is longer
    than `longest_wait`, and none goes beyond the budget.
    """
    backoff = wait_exponential_jitter(multiplier=0.5, exp_base=2, max=longest_wait, jitter=0.5)

    def wait(state: RetryCallState) -> float:
        # `Retry-After: 0`, or a date that our clock has passed, must not mean tries without pause.
        return min(max(_requested_wait(state), backoff(state)), longest_wait)

    def stop(state: RetryCallState) -> bool:
        # With an injected sleep only idle_for moves; with a real one the clock holds it already.
        spent = max(state.seconds_since_start or 0.0, state.idle_for)
        # A server that asks for more than is left has said that no wait within the budget will do.
        over_budget = spent + max(state.upcoming_sleep, _requested_wait(state)) > budget
        return over_budget or state.attempt_number >= attempts

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        on_retry(Retry(str(error), state.upcoming_sleep))

    return AsyncRetrying(
        retry=retry_if_exception_type(RetryableError),
        wait=wait,
        stop=stop,
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )


def _requested_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return (error.retry_after or 0.0) if isinstance(error, RetryableError) else 0.0


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a `Retry-After` of seconds or of an HTTP date; None where it is neither.

    `now` is Unix seconds. An HTTP date is UTC (RFC 9110), also where its zone is missing or -0000.
    None too for what cannot be meant: less than nothing, or more than a day. So servers send the
    moment itself as Unix time, a time in milliseconds, or a date that this clock has passed.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
            seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return seconds if 0 <= seconds <= _LONGEST_MEANT else None
