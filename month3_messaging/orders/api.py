"""The orders API: place, read, list. It knows orders and users, and no shards.

An order of somebody else is answered like one that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel

from month3_messaging.orders import records
from month3_messaging.orders.models import Order, PlaceOrder
from month3_messaging.orders.placement import Placement
from month3_messaging.orders.sessions import ReadSession, Sessions
from scalelab.errors import InvalidInput, NotFound
from scalelab.security import Principal, TokenVerifier
from scalelab.web import problem_responses
from scalelab.web.auth import require
from scalelab.web.idempotency_http import IdempotencyKey, answer_response

TOKEN_HEADER = "X-Consistency-Token"


class PlacedOut(BaseModel):
    """The answer to a placement. total_minor: minor units of `currency`."""

    order_id: UUID
    status: str
    total_minor: int
    currency: str


class LineOut(BaseModel):
    """A line with the agreed price of one unit, in minor units."""

    product_id: str
    quantity: int
    unit_minor: int


class OrderOut(BaseModel):
    """An order as its owner sees it."""

    order_id: UUID
    status: str
    version: int
    lines: list[LineOut]
    total_minor: int
    currency: str
    placed_at: datetime
    updated_at: datetime


class OrderPage(BaseModel):
    """Orders, newest first. next_cursor: None on the last page."""

    orders: list[OrderOut]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OrdersApi:
    """What the routes need."""

    placement: Placement
    sessions: Sessions
    verifier: TokenVerifier


ConsistencyToken = Annotated[
    str | None,
    Header(
        alias=TOKEN_HEADER,
        max_length=512,
        description="From an earlier answer: what is read is at least that recent.",
    ),
]


def orders_router(api: OrdersApi) -> APIRouter:
    """POST and GET /api/v1/orders, GET /api/v1/orders/{order_id}; tokens of scope `shop`."""
    router = APIRouter(prefix="/api/v1/orders", tags=["orders"])
    user = Depends(require(api.verifier, "shop"))
    _add_placing(router, api, user)
    _add_reading(router, api, user)
    return router


def _add_placing(router: APIRouter, api: OrdersApi, user: Any) -> None:
    @router.post(
        "",
        status_code=202,
        response_model=PlacedOut,
        responses=problem_responses(400, 401, 403, 409, 413, 422, 503),
    )
    async def place(
        wanted: PlaceOrder, key: IdempotencyKey, principal: Principal = user
    ) -> Response:
        """Accept an order. Follow Location, or its `/events`, to see what becomes of it."""
        placed = await api.placement.place(principal.subject, key, wanted)
        response = answer_response(placed.answer, replayed=placed.replayed)
        if placed.token is not None:
            response.headers[TOKEN_HEADER] = placed.token
        return response


def _add_reading(router: APIRouter, api: OrdersApi, user: Any) -> None:
    @router.get(
        "",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def list_orders(
        response: Response,
        principal: Principal = user,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        token: ConsistencyToken = None,
    ) -> OrderPage:
        """The caller's orders, newest first."""
        before = _cursor(cursor)
        async with api.sessions.read_user(principal.subject, token) as session:
            orders = await records.list_of_user(
                session.conn, principal.subject, before=before, limit=limit + 1
            )
        _say_where(response, session)
        more = len(orders) > limit
        page = orders[:limit]
        return OrderPage(
            orders=[order_out(order) for order in page],
            next_cursor=str(page[-1].order_id) if more else None,
        )

    @router.get(
        "/{order_id}",
        responses=problem_responses(401, 403, 404, 422, 503),
    )
    async def read_order(
        order_id: UUID,
        response: Response,
        principal: Principal = user,
        token: ConsistencyToken = None,
    ) -> OrderOut:
        """One order of the caller."""
        order, session = await read_own(api.sessions, order_id, principal, token)
        _say_where(response, session)
        return order_out(order)


async def read_own(
    sessions: Sessions, order_id: UUID, principal: Principal, token: str | None
) -> tuple[Order, ReadSession]:
    """The caller's order and where it was read; NotFound for any other.

    That a replica does not know an order proves nothing: it may not have replayed it yet. So a
    "no" is only ever the primary's.
    """
    try:
        async with sessions.read_order(order_id, token) as session:
            order = await records.find(session.conn, order_id)
        if order is None and session.role == "replica":
            async with sessions.for_order(order_id) as primary:
                order = await records.find(primary.conn, order_id)
            session = ReadSession(primary.conn, primary.shard, "primary")
    except InvalidInput as error:
        raise _no_such_order() from error
    if order is None or order.user_id != principal.subject:
        raise _no_such_order()
    return order, session


def order_out(order: Order) -> OrderOut:
    """The order's public form."""
    return OrderOut(
        order_id=order.order_id,
        status=order.status.value,
        version=order.version,
        lines=[
            LineOut(product_id=line.product_id, quantity=line.quantity, unit_minor=line.unit_minor)
            for line in order.lines
        ],
        total_minor=order.total_minor,
        currency=order.currency,
        placed_at=order.placed_at,
        updated_at=order.updated_at,
    )


def _say_where(response: Response, session: ReadSession) -> None:
    response.headers["X-Shard"] = session.shard
    response.headers["X-DB-Role"] = session.role
    response.headers["Cache-Control"] = "private, no-store"


def _cursor(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError as error:
        raise InvalidInput("this cursor came from no page of ours", field="cursor") from error


def _no_such_order() -> NotFound:
    return NotFound("There is no such order.", code="unknown_order")
