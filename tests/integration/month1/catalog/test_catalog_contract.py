"""The catalogue against its own OpenAPI description, by generated requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance, status_code_conformance

from scalelab.web import serve
from tests.integration.month1.catalog.conftest import build_shelf

EXAMPLES = 6
OPAQUE = {
    "GET /api/v1/products",
    "GET /api/v2/products",
    "GET /api/products",
    *(
        f"{method} /api/v{version}/products/{{product_id}}"
        for method in ("PUT", "PATCH", "DELETE")
        for version in (1, 2)
    ),
}
"""Operations with an argument whose valid values no schema can name: a cursor, the tag of what
stands just now."""


# The service is served by another thread of this process and draws ids of traces meanwhile, which
# Hypothesis takes for random choices of the strategy.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_any_request_gets_a_documented_answer(stocked_dsn: str, redis_url: str) -> None:
    """Signed in with every scope: valid input is accepted and answered as documented, secured
    operations refuse without the token, and no input at all leads to a 5xx or a surprise."""
    shelf = build_shelf(stocked_dsn, redis_url)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            shelf.app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            drain_s=2.0,
            on_listening=lambda _host, bound: port.set_result(bound),
        )
    )
    try:
        base_url = f"http://127.0.0.1:{await port}"
        headers = shelf.bearer("admin", "internal", "shop")
        operations = await asyncio.to_thread(fuzz, shelf.app.openapi(), base_url, headers)
    finally:
        stop.set()
        await serving
    assert operations == 13


def fuzz(document: dict[str, Any], base_url: str, headers: dict[str, str]) -> int:
    """Call every operation of the document with generated input; how many there were."""
    operations = list(schemathesis.openapi.from_dict(document).get_all_operations())
    for found in operations:
        for mode in GenerationMode:
            fuzz_operation(found.ok(), mode, base_url, headers)  # type: ignore[union-attr]
    return len(operations)


def fuzz_operation(
    operation: Any, mode: GenerationMode, base_url: str, headers: dict[str, str]
) -> None:
    """Call one operation EXAMPLES times with input that its schema allows, or forbids."""
    is_valid = mode is GenerationMode.POSITIVE
    excluded = [positive_data_acceptance] if operation.label in OPAQUE else []
    # What is forbidden may still be harmless (an unknown parameter), so acceptance is no fault.
    checks = None if is_valid else [not_a_server_error, status_code_conformance]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def call(case: Any) -> None:
        case.call_and_validate(
            base_url=base_url, headers=headers, checks=checks, excluded_checks=excluded
        )

    call()
