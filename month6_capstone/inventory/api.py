"""Inventory over HTTP, for other services only: holds and stock."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from month6_capstone.inventory.holds import drop_hold, open_hold, set_stock, stock_of
from month6_capstone.inventory.stock import Level, Line
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.security import TokenVerifier
from scalelab.web import problem_responses
from scalelab.web.auth import require

ProductId = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
ProductPath = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")]
_INITIAL_MAX = 10**9


class HoldLine(BaseModel):
    """quantity pieces of one product."""

    model_config = ConfigDict(extra="forbid")

    product_id: ProductId
    quantity: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]


class HoldBody(BaseModel):
    """PUT /internal/v1/holds/{hold_id}. ttl_s: seconds until the hold ends by itself."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")]
    lines: Annotated[list[HoldLine], Field(min_length=1, max_length=50)]
    ttl_s: Annotated[float, Field(gt=0, le=86_400)]

    @model_validator(mode="after")
    def each_product_once(self) -> HoldBody:
        """A product that stands twice would make its line's quantity ambiguous."""
        if len({line.product_id for line in self.lines}) != len(self.lines):
            raise ValueError("each product may be named once")
        return self


class HoldView(BaseModel):
    """The answer to an open hold. expires_at: null once the order is paid."""

    hold_id: UUID
    expires_at: datetime | None


class StockBody(BaseModel):
    """PUT /internal/v1/stock/{product_id}. initial: pieces in all, those that are out included."""

    model_config = ConfigDict(extra="forbid")

    initial: Annotated[int, Field(ge=0, le=_INITIAL_MAX, strict=True)]


class StockView(BaseModel):
    """One product's pieces; initial = available + held + reserved."""

    product_id: str
    initial: int
    available: int
    held: int
    reserved: int


def build_router(database: Database, verifier: TokenVerifier, clock: Clock) -> APIRouter:
    """All endpoints; every one demands a token with the scope `internal`."""
    router = APIRouter(prefix="/internal/v1", dependencies=[Depends(require(verifier, "internal"))])
    _add_holds(router, database, clock)
    _add_stock(router, database)
    return router


def _add_holds(router: APIRouter, database: Database, clock: Clock) -> None:
    async def put_hold(hold_id: UUID, body: HoldBody, response: Response) -> HoldView:
        """Hold all lines or none: 201 if this call took the stock, 200 if the hold stands."""
        opened = await open_hold(
            database,
            clock,
            hold_id=hold_id,
            user_id=body.user_id,
            lines=[Line(line.product_id, line.quantity) for line in body.lines],
            ttl_s=body.ttl_s,
        )
        response.status_code = 201 if opened.is_new else 200
        return HoldView(hold_id=opened.hold_id, expires_at=opened.expires_at)

    async def delete_hold(hold_id: UUID) -> None:
        """Let a hold go; its id cannot be opened again. 409 `hold_reserved` once paid."""
        await drop_hold(database, clock, hold_id)

    path = "/holds/{hold_id}"
    router.add_api_route(
        path,
        put_hold,
        methods=["PUT"],
        responses={201: {"model": HoldView}, **problem_responses(404, 409)},
    )
    router.add_api_route(
        path, delete_hold, methods=["DELETE"], status_code=204, responses=problem_responses(409)
    )


def _add_stock(router: APIRouter, database: Database) -> None:
    async def put_stock(product_id: ProductPath, body: StockBody) -> StockView:
        """Set how many pieces there are in all. 409 `stock_in_use` if more are out."""
        return _view(await set_stock(database, product_id, body.initial))

    async def get_stock(product_id: ProductPath) -> StockView:
        """One product's pieces."""
        return _view(await stock_of(database, product_id))

    path = "/stock/{product_id}"
    router.add_api_route(path, put_stock, methods=["PUT"], responses=problem_responses(409))
    router.add_api_route(path, get_stock, methods=["GET"], responses=problem_responses(404))


def _view(level: Level) -> StockView:
    return StockView(
        product_id=level.product_id,
        initial=level.initial,
        available=level.available,
        held=level.held,
        reserved=level.reserved,
    )
