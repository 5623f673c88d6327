"""Claims about service tokens, published keys and the description of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import status_code_conformance

from month6_capstone.identity import add_key
from month6_capstone.identity.service import IdentitySettings
from scalelab.clock import SystemClock
from scalelab.security import HttpJwks, ServiceTokens, StaticJwks, TokenVerifier
from scalelab.security.aiohttp_fetch import fetch
from scalelab.web import serve
from tests.integration.month6.identity.conftest import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Bureau,
    build_bureau,
)

FORM = {"grant_type": "client_credentials", "client_id": "orders", "client_secret": SECRET}
EXAMPLES = 10


@asynccontextmanager
async def serving(bureau: Bureau) -> AsyncIterator[str]:
    """Serve on a free port; the base URL."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            bureau.app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            drain_s=2.0,
            on_listening=lambda _host, bound: port.set_result(bound),
        )
    )
    try:
        yield f"http://127.0.0.1:{await port}"
    finally:
        stop.set()
        await task
        await bureau.client.aclose()


async def test_a_client_gets_a_token_of_its_own_scope(bureau: Bureau) -> None:
    """The token names the client, carries its scopes and verifies."""
    answer = await bureau.client.post("/oauth2/token", data=FORM)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    document = (await bureau.client.get("/.well-known/jwks.json")).json()
    keys = TokenVerifier(StaticJwks(document), ISSUER, AUDIENCE, SystemClock())
    principal = await keys.verify(answer.json()["access_token"])
    assert (principal.subject, principal.client_id) == ("orders", "orders")
    assert principal.scopes == {"internal"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client")),
        ({"client_id": "nobody"}, (401, "invalid_client")),
        ({"scope": "internal admin"}, (400, "invalid_scope")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
        ({"grant_type": "authorization_code"}, (400, "unsupported_grant_type")),
        ({"grant_type": ""}, (400, "unsupported_grant_type")),
    ],
)
async def test_a_refused_request_names_the_error_of_the_rfc(
    bureau: Bureau, change: dict[str, str], expected: tuple[int, str]
) -> None:
    """RFC 6749 section 5.2, as a problem document."""
    answer = await bureau.client.post("/oauth2/token", data=FORM | change)
    assert (answer.status_code, answer.json()["code"]) == expected


async def test_a_json_body_is_not_a_form(bureau: Bureau) -> None:
    """The endpoint takes one media type."""
    answer = await bureau.client.post("/oauth2/token", json=FORM)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_secrets_in_the_url_are_not_read(bureau: Bureau) -> None:
    """What stands in a URL ends in logs."""
    answer = await bureau.client.post(
        "/oauth2/token",
        params=FORM,
        content=b"",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_services_and_verifiers_meet_over_the_network(settings: IdentitySettings) -> None:
    """The shared token client and the shared key source work against this issuer."""
    async with serving(build_bureau(settings)) as url:
        tokens = ServiceTokens(f"{url}/oauth2/token", "orders", SECRET, "internal", SystemClock())
        keys = HttpJwks(f"{url}/.well-known/jwks.json", fetch)
        principal = await TokenVerifier(keys, ISSUER, AUDIENCE, SystemClock()).verify(
            await tokens.bearer()
        )
    assert principal.client_id == "orders"


async def test_tokens_outlive_a_rotation_of_keys(settings: IdentitySettings) -> None:
    """After a new key was added and the service restarted, both tokens verify by one document."""
    issued: list[str] = []
    document: dict[str, Any] = {}
    for after in (timedelta(0), timedelta(seconds=1)):
        bureau = build_bureau(settings)
        async with bureau.app.router.lifespan_context(bureau.app), bureau.client:
            answer = await bureau.client.post("/oauth2/token", data=FORM)
            issued.append(answer.json()["access_token"])
            published = await bureau.client.get("/.well-known/jwks.json")
            assert published.headers["cache-control"] == "public, max-age=300"
            document = published.json()
        add_key(settings.key_dir, SystemClock().now() + after)
    assert len(document["keys"]) == 2
    keys = TokenVerifier(StaticJwks(document), ISSUER, AUDIENCE, SystemClock())
    assert [(await keys.verify(token)).subject for token in issued] == ["orders", "orders"]


async def test_no_private_part_is_published(bureau: Bureau) -> None:
    """A key's `d` never leaves the process."""
    for key in (await bureau.client.get("/.well-known/jwks.json")).json()["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


# The service is served by another thread of this process and draws ids of traces meanwhile, which
# Hypothesis takes for random choices of the strategy.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_any_request_gets_a_documented_answer(settings: IdentitySettings) -> None:
    """Generated requests to every operation: no 5xx, only documented statuses and bodies."""
    roomy = settings.model_copy(update={"login_per_address": 100_000})
    bureau = build_bureau(roomy)
    async with serving(bureau) as url:
        operations = await asyncio.to_thread(fuzz, bureau.app.openapi(), url)
    assert operations == 4


def fuzz(document: dict[str, Any], base_url: str) -> int:
    """Call every operation of the document with generated input; how many there were."""
    operations = list(schemathesis.openapi.from_dict(document).get_all_operations())
    for found in operations:
        operation: Any = found.ok()  # type: ignore[union-attr]
        fuzz_operation(operation, GenerationMode.POSITIVE, base_url)
        if operation.body or any(operation.iter_parameters()):
            fuzz_operation(operation, GenerationMode.NEGATIVE, base_url)
    return len(operations)


def fuzz_operation(operation: Any, mode: GenerationMode, base_url: str) -> None:
    """Call one operation EXAMPLES times with input that its schema allows, or forbids."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def call(case: Any) -> None:
        case.call_and_validate(
            base_url=base_url, checks=[not_a_server_error, status_code_conformance]
        )

    call()
