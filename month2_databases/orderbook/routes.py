"""The order book's API. Headers say which server answered, and why that one.

X-Shard, X-Served-By (server), X-Read-Role (primary or replica), X-Read-Reason; after a write
X-Consistency-Token, which the next read brings back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict

from month2_databases.orderbook.order import NewOrder, Order
from month2_databases.orderbook.orders import OrderBook, Read, shown
from month2_databases.sharding import ShardRouter
from scalelab.web import problem_responses
from scalelab.web.idempotency_http import REPLAYED, IdempotencyKey

TOKEN_HEADER = "X-Consistency-Token"

Token = Annotated[
    str | None,
    Header(
        alias=TOKEN_HEADER,
        max_length=512,
        description="From an earlier write: what is read is at least that recent.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=100)]


class NewOrderIn(BaseModel):
    """user_id: the shard key. amount_cents: what the order is worth."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: str
    amount_cents: int


class OrderOut(BaseModel):
    """slot: which of the 256 slots the user's rows are in."""

    order_id: UUID
    user_id: str
    amount_cents: int
    slot: int
    placed_at: datetime


class OrdersOut(BaseModel):
    """Orders, newest first."""

    orders: list[OrderOut]


class ShardsOut(BaseModel):
    """version: of the shard map. slots, orders: how many each shard has."""

    version: int
    slots: dict[str, int]
    orders: dict[str, int]


def orderbook_router(book: OrderBook, router: ShardRouter) -> APIRouter:
    """POST and GET under /api/v1."""
    api = APIRouter(prefix="/api/v1", tags=["orders"])
    _add_writing(api, book)
    _add_reading(api, book)

    @api.get("/shards", responses=problem_responses(503))
    async def shards() -> ShardsOut:
        """Where the slots and the orders are."""
        held = router.shard_map
        slots = {name: len(held.slots_of(name)) for name in router.primaries}
        return ShardsOut(version=held.version, slots=slots, orders=await book.counts())

    return api


def _add_writing(api: APIRouter, book: OrderBook) -> None:
    @api.post(
        "/orders",
        status_code=201,
        responses=problem_responses(400, 409, 413, 422, 503),
    )
    async def place(wanted: NewOrderIn, key: IdempotencyKey, response: Response) -> OrderOut:
        """Store an order on its user's shard. The same key again finds the same order."""
        placed = await book.place(NewOrder(wanted.user_id, wanted.amount_cents), key)
        response.headers["Location"] = f"/api/v1/orders/{placed.order.order_id}"
        response.headers["X-Shard"] = placed.shard
        if placed.replayed:
            response.headers[REPLAYED] = "true"
        if placed.token is not None:
            response.headers[TOKEN_HEADER] = placed.token
        return _out(placed.order)


def _add_reading(api: APIRouter, book: OrderBook) -> None:
    @api.get("/orders/{order_id}", responses=problem_responses(404, 422, 503))
    async def order(order_id: UUID, response: Response, token: Token = None) -> OrderOut:
        """One order; the id alone says which shard has it."""
        read = await book.order(order_id, token)
        _say_where(response, read)
        return _out(read.orders[0])

    @api.get("/users/{user_id}/orders", responses=problem_responses(422, 503))
    async def of_user(
        user_id: str, response: Response, limit: Limit = 20, token: Token = None
    ) -> OrdersOut:
        """A user's newest orders, from one shard."""
        read = await book.of_user(user_id, token, limit)
        _say_where(response, read)
        return OrdersOut(orders=[_out(one) for one in read.orders])

    @api.get("/orders", responses=problem_responses(422, 503))
    async def newest(limit: Limit = 20) -> OrdersOut:
        """Everybody's newest orders: all shards are asked and their answers merged."""
        return OrdersOut(orders=[_out(one) for one in await book.newest(limit)])


def _say_where(response: Response, read: Read) -> None:
    response.headers["X-Shard"] = read.shard
    response.headers["X-Served-By"] = read.server
    response.headers["X-Read-Role"] = read.role
    response.headers["X-Read-Reason"] = read.reason
    response.headers["Cache-Control"] = "no-store"


def _out(order: Order) -> OrderOut:
    return OrderOut.model_validate(shown(order))
