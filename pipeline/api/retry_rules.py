"""Which answers are worth another try.

Belongs here: the table.

| what came | to a GET | to a POST |
| --- | --- | --- |
| no connection | again | again: it was not sent |
| a connection that was cut; a body that does not unpack | again | its outcome is unknown |
| 429 | again, and more slowly from then on | again: it was not taken in |
| a status of AGAIN, or of 500 and more that is not in NEVER | again | 4xx: refused; 5xx: unknown |
| any other status but 200: refused | never | refused; from 200 to 299, it was done |
| 200 with no body, an HTML page, JSON cut short, an error in place of a page | again | unknown |
| 200 with JSON of another shape | never | unknown |
| 200 in a content coding that was not asked for | never | unknown |
| 200 that is too large or too slow | never the same: for less (`api.usage_walk`) | unknown |
| text that is not Unicode | it is taken (`pipeline.api.unicode`) | the same |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AGAIN: Final[Mapping[int, str]] = {
    408: "the server waited too long for the request (RFC 9110, 15.5.9)",
    421: "this connection leads to the wrong server; another may not (RFC 9110, 15.5.20)",
    425: "the request came too early in the connection (RFC 8470, 5.2)",
    429: "too many requests (RFC 6585, 4)",
}
"""Below 500, what passes. Of the statuses that gateways made up, 5xx alone are known to pass."""

NEVER: Final[Mapping[int, str]] = {
    501: "the server does not know the method (RFC 9110, 15.6.2)",
    505: "the server does not speak this HTTP (RFC 9110, 15.6.6)",
    511: "the network wants somebody to sign in first (RFC 6585, 6)",
}
"""From 500 on, what stays as it is until somebody changes something."""

WRONG_SERVER: Final = 421


def worth_another_try(status: int) -> bool:
    """Whether a GET that was answered with `status` may be answered otherwise soon."""
    return status in AGAIN or (status >= 500 and status not in NEVER)
