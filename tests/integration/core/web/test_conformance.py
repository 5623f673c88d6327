"""An app's OpenAPI description and its behaviour agree, for whatever a caller may send."""

from __future__ import annotations

import io
from typing import Any

import pytest
import schemathesis
from fastapi import APIRouter, Depends
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel, ConfigDict, Field
from schemathesis import GenerationMode

from scalelab.clock import ManualClock
from scalelab.errors import Conflict, NotFound
from scalelab.security import Principal, StaticJwks, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app, problem_responses
from scalelab.web.auth import require
from scalelab.web.idempotency_http import IdempotencyKey
from tests.security.core.token_forge import Forge

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    product_id: str = Field(pattern="^[a-z0-9-]{1,40}$")
    quantity: int = Field(ge=1, le=100)


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lines: list[Line] = Field(min_length=1, max_length=50)


class Accepted(BaseModel):
    order_id: int
    status: str


def shop(verifier: TokenVerifier) -> APIRouter:
    """A door like those of the services: a key, a token, a body, parameters, own errors."""
    router = APIRouter(prefix="/api/v1")
    shopper = Depends(require(verifier, "shop"))

    @router.post("/orders", status_code=202, responses=problem_responses(409))
    async def create(order: Order, key: IdempotencyKey, caller: Principal = shopper) -> Accepted:
        if len(order.lines) > 20:
            raise Conflict(f"{caller.subject} cannot have that", code="out_of_stock")
        return Accepted(order_id=len(key), status="pending")

    @router.get("/orders/{order_id}", responses=problem_responses(404))
    async def read(order_id: int, limit: int = 10) -> Accepted:
        if order_id > limit:
            raise NotFound("no such order")
        return Accepted(order_id=order_id, status="pending")

    @router.delete("/orders/{order_id}", status_code=204, responses=problem_responses(404))
    async def cancel(order_id: int, caller: Principal = shopper) -> None:
        raise NotFound(f"{caller.subject} has no order {order_id}")

    return router


@pytest.fixture(scope="module")
def described() -> tuple[Any, str]:
    """The app's description, bound to the app, and a valid token for it."""
    clock = ManualClock()
    forge = Forge(now_s=int(clock.now().timestamp()))
    verifier = TokenVerifier(StaticJwks(jwks([forge.key])), forge.issuer, forge.audience, clock)
    telemetry = build_telemetry(TelemetrySettings("test"), stream=io.StringIO())
    app = create_app(telemetry=telemetry, routers=[shop(verifier)])
    return schemathesis.openapi.from_asgi("/openapi.json", app), forge.signed()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/orders"),
        ("GET", "/api/v1/orders/{order_id}"),
        ("DELETE", "/api/v1/orders/{order_id}"),
    ],
)
def test_described_and_actual_behaviour_agree(
    described: tuple[Any, str], method: str, path: str, mode: GenerationMode
) -> None:
    """Statuses, media types, schemas, Allow, refused input: every check of the tool."""
    schema, token = described

    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
    def agrees(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"})

    agrees()
