"""A private client tells nothing of what servers say, and nothing that names a user."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.api import (
    ApiError,
    Client,
    ConversationsQuery,
    InvalidQuery,
    Limits,
    UsageQuery,
    get_usage,
)

WHO = "planted-person-4711"
RESULT = {"user_id": WHO, "num_operations": "many"}
BUCKET = {"start_time": 0, "end_time": 60, "results": [RESULT]}
QUERY = UsageQuery(0, 60, "1m", page=f"after {WHO}", user_ids=[WHO], external_user_ids=[WHO])

Reply = dict[str, Any] | Exception

REPLIES: dict[str, Reply] = {
    **{str(s): {"status_code": s, "text": WHO} for s in (204, 400, 401, 403, 404, 429, 500, 503)},
    "another shape": {"json": {"data": [BUCKET], "has_more": False}},
    "no JSON": {"text": f"<html>{WHO}"},
    "cut": {"content": json.dumps({"data": [BUCKET]}).encode()[:-5]},
    "a redirect": {"status_code": 307, "headers": {"Location": f"https://a.example/{WHO}"}},
    "no HTTP": httpx.RemoteProtocolError(f"illegal status line: {WHO}"),
}


def complaint(reply: Reply, *, private: bool) -> str:
    """All that anyone gets to see of the error that `reply` is for one question."""

    def serve(_: httpx.Request) -> httpx.Response:
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(**{"status_code": 200, **reply})

    async def run() -> str:
        async with Client(
            "https://api.example",
            SecretStr("k"),
            Limits(attempts=1),
            private=private,
            transport=httpx.MockTransport(serve),
        ) as client:
            with pytest.raises(ApiError) as failed:
                await get_usage(client, QUERY)
            return "".join(traceback.format_exception(failed.value))

    return asyncio.run(run())


@pytest.mark.parametrize("what", REPLIES)
def test_no_answer_of_a_private_client_is_quoted(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = complaint(REPLIES[what], private=True) + caplog.text
    assert "GET https://api.example/api/v1/llm/usage/conversations?start_time=0" in said
    assert WHO not in said
    assert WHO in complaint(REPLIES[what], private=False), "of any other client it is"


@pytest.mark.parametrize("who", [f"{WHO}\n", f" {WHO}", f"{WHO}\x00", f"{WHO}\ud800"])
def test_a_user_that_cannot_be_asked_for_is_not_named(who: str) -> None:
    for query in (
        ConversationsQuery,
        lambda on_behalf_of: UsageQuery(0, on_behalf_of=on_behalf_of),
    ):
        with pytest.raises(InvalidQuery, match=r"^on_behalf_of is ") as refused:
            query(on_behalf_of=who)
        assert WHO not in "".join(traceback.format_exception(refused.value, chain=True))
