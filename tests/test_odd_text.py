r"""Users whose ids are not Unicode are loaded, told apart, refreshed and synced like any other.

The API here serves half a surrogate pair, as `\ud83d` in JSON, and ids that look like what is
written for it.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import httpx
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.conversations.pseudonym_resolver import PseudonymResolver
from pipeline.conversations.sync import sync_days
from pipeline.lake.store import Lake
from pipeline.orchestration.assets.finalize import report_odd_text
from pipeline.orchestration.resources import Services
from pipeline.pseudonyms import Pseudonyms
from pipeline.timeline import SECONDS, day_window
from pipeline.usage.load import load_days
from pipeline.usage.refresh import refresh_days
from tests.truth import FAST

DAY: Final = date(2024, 1, 1)
NOW: Final = day_window(DAY).end + 86_400.0
USERS: Final = (
    rb"user_\ud83d",
    rb"user_\ud83e",
    rb"user_\ufffd",
    b"user_\xff",
    rb"user_\\ud83d",
    rb"user_",
)
"""As JSON has them."""
WRITTEN: Final = (
    r"user_\ud83d",
    r"user_\ud83e",
    "user_�",
    r"user_\x{ff}",
    r"user_\\ud83d",
    "user_",
)
ODD: Final = {WRITTEN[0], WRITTEN[1], WRITTEN[3]}


class Api:
    """One operation of each user in each hour of the day, and no conversations."""

    def __init__(self) -> None:
        self.behalf: list[bytes | None] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/usage/conversations"):
            self.behalf.append(dict(request.headers.raw).get(b"X-On-Behalf-Of"))
            return httpx.Response(200, json={"object": "list", "data": [], "has_more": False})
        asked = parse_qs(request.url.query.decode())
        start, end = int(asked["start_time"][0]), int(asked["end_time"][0])
        width = SECONDS[asked["bucket_width"][0]]  # type: ignore[index]
        rows = b",".join(
            b'{"user_id":"%b","api_key_id":"key","num_operations":?}' % user for user in USERS
        )
        data = [
            b'{"start_time":%d,"end_time":%d,"results":[%b]}'
            % (at, at + width, rows.replace(b"?", b"%d" % count) if count else b"")
            for at in range(start, end, width)
            if (count := len(range(-(-at // 3_600) * 3_600, at + width, 3_600))) or at == start
        ]
        return httpx.Response(
            200, content=b'{"data":[%b],"has_more":false,"next_page":null}' % b",".join(data)
        )

    def connect(self) -> Client:
        """A client of it."""
        return Client(
            "https://api.example",
            SecretStr("k"),
            FAST,
            transport=httpx.MockTransport(self._answer),
            now=lambda: NOW,
        )


@pytest.mark.parametrize("pseudonyms", [None, Pseudonyms(SecretStr("k" * 32))])
def test_each_user_is_one_user(tmp_path: Path, pseudonyms: Pseudonyms | None) -> None:
    api, lake = Api(), Lake(tmp_path / "lake")
    load_days(api.connect, lake, [DAY], pseudonyms=pseudonyms, now=lambda: NOW)
    rows = pq.read_table(lake.path("usage_1d", DAY)).to_pylist()
    names = WRITTEN if pseudonyms is None else [pseudonyms.of(user) for user in WRITTEN]
    assert {row["user_id"]: row["num_operations"] for row in rows} == dict.fromkeys(names, 24)
    assert len(rows) == len(USERS)
    found = refresh_days(api.connect, lake, pseudonyms=pseudonyms, now=lambda: NOW)
    assert (found.compared, found.changed) == ((DAY,), ())


@pytest.mark.parametrize("pseudonyms", [None, Pseudonyms(SecretStr("k" * 32))])
def test_who_cannot_be_asked_for_is_a_gap_and_the_others_are_read(
    tmp_path: Path, pseudonyms: Pseudonyms | None
) -> None:
    api, lake = Api(), Lake(tmp_path / "lake")
    load_days(api.connect, lake, [DAY], pseudonyms=pseudonyms, now=lambda: NOW)
    resolver = None if pseudonyms is None else PseudonymResolver(pseudonyms, api.connect)
    synced = sync_days({"key": api.connect}, lake, [DAY], resolver=resolver, now=lambda: NOW)
    odd = ODD if pseudonyms is None else {pseudonyms.of(user) for user in ODD}
    assert {gap.partition(" can't be asked for")[0] for gap in synced.gaps} == {
        f"key key, user {user!r}" for user in odd
    }
    assert set(api.behalf) == {None, "user_�".encode(), rb"user_\ud83d", b"user_"}


def test_it_is_told_once_a_run() -> None:
    shown: list[str] = []
    services = Services(on_note=shown.append)
    services.odd_text.add("GET /usage", "user_id", 2)
    for _ in range(2):
        report_odd_text(services)
    (sentence,) = shown
    assert sentence.startswith("warning: GET /usage: 2 texts in user_id are not Unicode")


def test_metadata_and_extra_fields_stay_json_for_any_reader(tmp_path: Path) -> None:
    body = (
        rb'{"data":[{"start_time":%d,"end_time":%d,"results":[{"tier":"\ud83d","num_operations":1}]'
        rb'}],"has_more":false}' % (day_window(DAY).start, day_window(DAY).start + 60)
    )

    def connect() -> Client:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        return Client("https://api.example", SecretStr("k"), FAST, transport=transport)

    lake = Lake(tmp_path / "lake")
    load_days(connect, lake, [DAY], now=lambda: day_window(DAY).start + 60.0)
    (row,) = pq.read_table(lake.path("raw_usage", DAY)).to_pylist()
    assert json.loads(row["extra"]) == {"tier": r"\ud83d"}
