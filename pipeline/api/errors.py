"""What can go wrong between this project and the API, one class for each thing a caller can do.

Every message says what was asked, what came back and what the reader can do. None holds a secret:
the client redacts what the server sent before it gets here.
"""

from __future__ import annotations


class ApiError(Exception):
    """The API did not answer as asked."""


class InvalidQuery(ApiError, ValueError):
    """The question breaks the API's own rules; no request was made."""


class RouteError(ApiError):
    """A proxy or certificate setting of the environment can't be used.

    `variable` is its name, `found` what is wrong with what it holds, `todo` what to do.
    """

    def __init__(self, variable: str, found: str, todo: str) -> None:
        super().__init__(f"{variable}: {found}: {todo}")
        self.variable, self.found, self.todo = variable, found, todo


class Unauthorized(ApiError):
    """401: the key is refused. 403: it may not do or see this."""

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class Refused(ApiError):
    """Another status: asking again would bring the same."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unavailable(ApiError):
    """Server errors, broken connections or broken bodies outlasted the retry budget."""


class OutcomeUnknown(ApiError):
    """A POST was sent, and no answer says whether it was done: never send it again blindly."""


class QuotaExhausted(ApiError):
    """429 outlasted the retry budget, or the server named a wait that is longer than it.

    `retry_after` is the server's own figure in seconds, None where it gave none.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AnswerTooBig(ApiError):
    """The answer is larger or slower than one request may be: ask for less at once.

    `slow`: only its time was too long, so the same question may be answered another time.
    """

    def __init__(self, message: str, *, slow: bool = True) -> None:
        super().__init__(message)
        self.slow = slow


class BucketTooBig(AnswerTooBig):
    """A single bucket, `[start, end)` in Unix seconds, is too big: ask for narrower ones."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message, slow=False)
        self.start = start
        self.end = end


class UnknownCoding(ApiError):
    """The body is packed in a way that was not asked for: asking again would bring the same."""


class MalformedBody(ApiError):
    """200, but the body is cut off, is not JSON, or is an error. Worth another try.

    `says_why`: it holds nothing but why, so it may be quoted.
    """

    def __init__(self, message: str, *, says_why: bool = False) -> None:
        super().__init__(message)
        self.says_why = says_why


class ShapeError(ApiError):
    """Whole JSON, but not what the endpoint's contract says: retrying can't help."""


class PagingError(ApiError):
    """The pages contradict each other or the question; nothing read from them can be trusted."""
