"""The OpenAPI document is the contract: whatever it allows is answered as it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from meetkai_mka1.models import GetConversationsUsageRequest
from pydantic import SecretStr
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.applications import Starlette

from pipeline.api.usage import MAX_LIMIT, PATH
from pipeline.query.page import RESULT
from pipeline.serve import build_app
from pipeline.serve.openapi import document
from pipeline.serve.parameters import DEFAULT_LIMITS, DEFAULT_WIDTH
from pipeline.settings import load_settings
from pipeline.timeline import ANY_WIDTHS, WIDTHS
from tests.serve.asking import KEYS

load_all_checks()
# Not negative_data_rejection: a text where an array is asked for breaks the document and is, in a
# query string, an array of one.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
    checks.ignored_auth,
]


@pytest.fixture
def app(home: Path) -> Starlette:
    """An app that asks for a key, over days of which all others count as empty."""
    keys = tuple(SecretStr(key) for key in KEYS)
    return build_app(load_settings(home=home, serve_keys=keys), partial=True)


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_answer_is_one_of_the_contract(app: Starlette, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    seen: Counter[int] = Counter()

    @settings(max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=schema[PATH]["GET"].as_strategy(generation_mode=mode))
    def holds(case: Case[Any]) -> None:
        headers = {"Authorization": f"Bearer {KEYS[0]}"}
        seen[case.call_and_validate(headers=headers, checks=CHECKS).status_code] += 1

    holds()
    assert seen[200] > 10 or mode is GenerationMode.NEGATIVE
    assert seen[400] > 10


def test_the_document_is_there_for_all_and_is_openapi(app: Starlette) -> None:
    schemathesis.openapi.from_asgi("/openapi.json", app).validate()


def test_a_key_is_part_of_the_contract_where_one_is_asked_for() -> None:
    locked, unlocked = (document(by_key=by_key)["paths"][PATH]["get"] for by_key in (True, False))
    assert (locked["security"], unlocked["security"]) == ([{"bearer": []}], [])
    assert set(locked["responses"]) - set(unlocked["responses"]) == {"401"}


def test_the_document_says_the_limits_and_widths_that_the_server_has() -> None:
    said = document(by_key=False)
    parameters = {it["name"]: it for it in said["paths"][PATH]["get"]["parameters"]}
    limits = ", ".join(f"{limit} at {width}" for width, limit in DEFAULT_LIMITS.items())
    assert parameters["limit"]["description"] == f"Most buckets on a page. Default: {limits}."
    assert parameters["limit"]["schema"]["maximum"] == MAX_LIMIT
    width = parameters["bucket_width"]
    assert width["schema"]["enum"] == list(ANY_WIDTHS)
    assert width["schema"]["default"] == DEFAULT_WIDTH
    assert f"The API has {', '.join(WIDTHS)};" in width["description"]
    schemas = said["components"]["schemas"]
    assert schemas["Page"]["properties"]["data"]["maxItems"] == MAX_LIMIT
    assert schemas["Result"]["properties"]["object"]["const"] == RESULT


def test_every_parameter_of_the_published_client_is_answered_or_refused_in_words(
    http: httpx.Client,
) -> None:
    parameters = document(by_key=False)["paths"][PATH]["get"]["parameters"]
    answered = {it["name"] for it in parameters if not it.get("x-extension")}
    fields = GetConversationsUsageRequest.model_fields.items()
    known = {field.alias or name for name, field in fields}
    assert answered < known
    for name in known - answered:
        how: dict[str, Any] = (
            {"headers": {name: "a"}} if name[0] == "X" else {"params": {name: "a"}}
        )
        error = http.get(PATH, **how).json()["error"]
        assert error.startswith(f"{name} is not ")
        assert "filter by user_ids" in error
