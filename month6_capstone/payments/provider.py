"""The payment provider, as a process of its own that keeps its own book.

It stands for a company outside: the shop can ask it over HTTP and cannot look into it. Its book is
a file that no database transaction covers, so a double charge cannot hide. Cards:

    tok_4242424242424242   pays
    tok_4000000000000002   is declined
    tok_4000000000000119   pays, then the answer does not come in time; asking again gets it
    any other              is refused as unknown (422)

Absent on purpose: accounts, authentication, webhooks, real money.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month6_capstone.payments.book import ChargeAsked, Line, LineKind, RefundAsked
from month6_capstone.payments.book_file import BookFile, open_book
from scalelab.clock import Clock, SystemClock
from scalelab.errors import Conflict, InvalidInput
from scalelab.ids import uuid7
from scalelab.telemetry import Telemetry
from scalelab.web import create_app, problem_responses
from scalelab.web.idempotency import parse_key

PAYS = "tok_4242424242424242"
DECLINED = "tok_4000000000000002"
CHARGES_THEN_HANGS = "tok_4000000000000119"


class ProviderSettings(BaseSettings):
    """Environment of the provider. hang_s: how long the silent card stays silent, in seconds."""

    model_config = SettingsConfigDict(env_prefix="PROVIDER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8087
    book_path: Path
    hang_s: Annotated[float, Field(ge=0)] = 30.0
    trace_export: str = "none"
    log_level: str = "info"


class ChargeBody(BaseModel):
    """POST /v1/charges."""

    model_config = ConfigDict(extra="forbid")

    order_id: UUID
    amount_minor: Annotated[int, Field(gt=0, le=10**12, strict=True)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    card_token: Annotated[str, Field(max_length=200)]


class RefundBody(BaseModel):
    """POST /v1/refunds. amount_minor left out: all that is left of the charge."""

    model_config = ConfigDict(extra="forbid")

    charge_id: Annotated[str, Field(min_length=1, max_length=200)]
    amount_minor: Annotated[int, Field(gt=0, le=10**12, strict=True)] | None = None


class Provider:
    """The endpoints over one open book."""

    def __init__(self, *, hang_s: float, clock: Clock) -> None:
        self._hang_s = hang_s
        self._clock = clock
        self._book: BookFile | None = None

    @property
    def book(self) -> BookFile:
        """The open book. Raises RuntimeError outside the application's lifespan."""
        if self._book is None:
            raise RuntimeError("the book is not open")
        return self._book

    @asynccontextmanager
    async def opened(self, path: Path) -> AsyncGenerator[None, None]:
        """Hold the book open. Raises CorruptData for a damaged one: the process must not start."""
        async with open_book(path) as book:
            self._book = book
            yield
        self._book = None

    async def ready(self) -> None:
        """Raises Unavailable once the disk has failed."""
        self.book.check()

    def router(self) -> APIRouter:
        """The provider's own API, version 1."""
        router = APIRouter(prefix="/v1")
        router.add_api_route(
            "/charges",
            self.charge,
            methods=["POST"],
            status_code=201,
            responses=problem_responses(402),
        )
        router.add_api_route("/charges", self.charges, methods=["GET"])
        router.add_api_route(
            "/refunds",
            self.refund,
            methods=["POST"],
            status_code=201,
            responses=problem_responses(404, 409),
        )
        return router

    async def charge(
        self,
        body: ChargeBody,
        request: Request,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Take money, once per key. 402 `card_declined` is final for its key."""
        if body.card_token not in (PAYS, DECLINED, CHARGES_THEN_HANGS):
            raise InvalidInput("no such card", field="card_token", code="card_unknown")
        now = self._clock.now()
        asked = ChargeAsked(
            parse_key(idempotency_key), str(body.order_id), body.amount_minor, body.currency
        )
        line = self.book.index.charge(
            asked,
            declined=body.card_token == DECLINED,
            charge_id=f"ch_{uuid7(now).hex}",
            at=_instant(now),
        )
        is_new = await self.book.commit(line)
        if is_new and body.card_token == CHARGES_THEN_HANGS:
            await _stay_silent(request, self._hang_s)
        if line.kind is LineKind.DECLINE:
            raise Conflict("The card was declined.", code="card_declined")
        return JSONResponse(self._charge_view(line), status_code=201)

    async def refund(
        self, body: RefundBody, idempotency_key: Annotated[str | None, Header()] = None
    ) -> dict[str, Any]:
        """Give money back, once per key, never more than was taken."""
        asked = RefundAsked(parse_key(idempotency_key), body.charge_id, body.amount_minor)
        line = self.book.index.refund(asked, at=_instant(self._clock.now()))
        await self.book.commit(line)
        return {
            "refund_id": f"re_{line.seq}",
            "charge_id": line.charge_id,
            "order_id": line.order_id,
            "amount_minor": line.amount_minor,
            "currency": line.currency,
        }

    async def charges(self, order_id: UUID) -> dict[str, Any]:
        """The charges of an order, oldest first, as far as they are on the disk."""
        lines = self.book.index.charges_of(str(order_id))
        for line in lines:
            await self.book.commit(line)
        return {"charges": [self._charge_view(line) for line in lines]}

    def _charge_view(self, line: Line) -> dict[str, Any]:
        return {
            "charge_id": line.charge_id,
            "order_id": line.order_id,
            "amount_minor": line.amount_minor,
            "currency": line.currency,
            "refunded_minor": self.book.index.refunded_minor(line.charge_id),
            "created_at": line.at,
        }


def create(settings: ProviderSettings, telemetry: Telemetry) -> FastAPI:
    """The provider's application; the book is open for as long as its lifespan lasts."""
    provider = Provider(hang_s=settings.hang_s, clock=SystemClock())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        async with provider.opened(settings.book_path):
            yield

    return create_app(
        telemetry=telemetry,
        routers=[provider.router()],
        lifespan=lifespan,
        readiness={"book": provider.ready},
        title="Payment provider",
        statuses={"card_declined": 402},
    )


def _instant(now: datetime) -> str:
    return now.isoformat().replace("+00:00", "Z")


async def _stay_silent(request: Request, hang_s: float) -> None:
    """Wait `hang_s` seconds, or until the client has hung up."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(gone(), hang_s)
    except TimeoutError:
        return
