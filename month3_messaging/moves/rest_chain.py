"""First move, as it begins: one call after the other, and the customer waits for all of them.

    customer ── POST ──► orders ── POST ──► payments: charge
                            └───── POST ──► inventory: reserve
                            └─ confirm, answer

What is wrong with it: the order stands only if everybody answers. When inventory is away the money
has been taken already, and a customer who tries again pays again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter
from psycopg import AsyncConnection

from month3_messaging.moves import books
from scalelab.clients.http import HttpClient
from scalelab.clients.postgres import Database
from scalelab.errors import ScalelabError
from scalelab.web import problem_responses

Effect = Callable[[AsyncConnection[Any], UUID], Awaitable[None]]


def service_router(database: Database, effect: Effect) -> APIRouter:
    """`POST /v1/orders/{order_id}` of payments (`books.charge`) or inventory (`books.reserve`)."""
    router = APIRouter(prefix="/v1")

    @router.post("/orders/{order_id}", responses=problem_responses(503))
    async def take_effect(  # pyright: ignore[reportUnusedFunction] - the decorator registers it
        order_id: UUID,
    ) -> dict[str, bool]:
        async with database.transaction() as conn:
            await effect(conn, order_id)
        return {"done": True}

    return router


class ChainedOrders:
    """The order service of the chain. Made of clients of its two services."""

    def __init__(self, database: Database, payments: HttpClient, inventory: HttpClient) -> None:
        self._database = database
        self._services = (payments, inventory)

    async def place(self) -> UUID:
        """Place an order and see it through.

        Raises what the first service that does not answer raised. The order is failed then, and
        what others did before stays done: nobody is left who would undo it.
        """
        order_id = uuid4()
        async with self._database.transaction() as conn:
            await books.place(conn, order_id)
        try:
            for service in self._services:
                await service.post(f"/v1/orders/{order_id}", {})
        except ScalelabError:
            async with self._database.transaction() as conn:
                await books.fail(conn, order_id)
            raise
        async with self._database.transaction() as conn:
            await books.confirm(conn, order_id)
        return order_id
