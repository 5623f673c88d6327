"""Place an order: ask for prices and a hold, then write everything in one transaction.

Theory of operation
    1. Was this key answered before? Then replay the answer; nobody else is asked.
    2. Prices and the hold, at the same time. The hold's id derives from user, key and body, so a
       repeat holds the same stock again instead of more.
    3. One transaction on the user's shard: claim the key, look again, then order, history, saga,
       the event `placed`, and the answer under the key.

Guarantees
    P1  One key makes at most one order, however many copies of the request race or are repeated
        after a crash; every copy that is answered 2xx is answered alike.
    P2  What was acknowledged is committed with its event: it will reach an end state.
    P3  A refusal (4xx) or an outage (503) changed nothing here. At most a hold remains until it
        expires.

Absent on purpose: any call to another service inside the transaction.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID, uuid5

from month3_messaging.broker import Event
from month3_messaging.orders import records
from month3_messaging.orders.models import (
    SOURCE,
    Order,
    PlaceOrder,
    Price,
    event_id,
    event_type,
    price_lines,
)
from month3_messaging.orders.peers import CatalogPrices, InventoryHolds
from month3_messaging.orders.saga import Status
from month3_messaging.orders.sessions import FROM_PRIMARY, Sessions
from scalelab.clock import Clock
from scalelab.errors import InvalidInput
from scalelab.hashing.slots import slot_for_key
from scalelab.ids import routed_uuid7
from scalelab.saga import SagaDefinition, begin
from scalelab.web.idempotency import Scope, StoredAnswer, fingerprint
from scalelab.web.idempotency_postgres import claim_and_find, find

ROUTE = "POST /api/v1/orders"

_HOLD_NAMESPACE = UUID("5b6d1f60-4c0e-5d1c-9a51-1f3f0a5f2f0d")


@dataclass(frozen=True, slots=True)
class Placed:
    """The answer to give. token: consistency token of the commit that holds the order."""

    answer: StoredAnswer
    replayed: bool
    token: str | None


@dataclass(frozen=True, slots=True)
class Placement:
    """The use case with all it needs.

    reached: called at each crash point ("placement.before_commit", "placement.after_commit").
    """

    definition: SagaDefinition
    sessions: Sessions
    prices: CatalogPrices
    holds: InventoryHolds
    clock: Clock
    reached: Callable[[str], None] = lambda _point: None

    async def place(self, user_id: str, key: str, wanted: PlaceOrder) -> Placed:
        """Place the order, or replay what this key was answered before.

        Raises InvalidInput (unknown_product and others), Conflict (out_of_stock,
        idempotency_in_flight), IdempotencyMismatch, Unavailable, or OutcomeUnknown if the commit
        was not answered: ask again with the same key.
        """
        scope = Scope(user_id, ROUTE, key)
        print_ = fingerprint(wanted.model_dump_json().encode())
        async with self.sessions.read_user(user_id, FROM_PRIMARY) as look:
            stored = await find(look.conn, scope, print_)
        if stored is not None:
            async with self.sessions.for_user(user_id) as session:
                pass  # only for a token at or after the commit that holds the order
            return Placed(stored, replayed=True, token=session.token)
        hold_id = uuid5(_HOLD_NAMESPACE, f"{len(user_id)}:{user_id}{key}{print_.hex()}")
        prices = await self._ask(hold_id, user_id, wanted)
        lines, total_minor, currency = price_lines(wanted.lines, prices)
        now = self.clock.now()
        order = Order(
            order_id=routed_uuid7(slot_for_key(user_id), now),
            user_id=user_id,
            status=Status.PENDING,
            version=1,
            lines=lines,
            total_minor=total_minor,
            currency=currency,
            hold_id=hold_id,
            placed_at=now,
            updated_at=now,
        )
        return await self._write(scope, print_, order, wanted.card_token)

    async def _ask(self, hold_id: UUID, user_id: str, wanted: PlaceOrder) -> dict[str, Price]:
        """Prices, once both peers have answered. What the caller did wrong outranks an outage."""
        prices, held = await asyncio.gather(
            self.prices.prices([line.product_id for line in wanted.lines]),
            self.holds.hold(hold_id, user_id, wanted.lines),
            return_exceptions=True,
        )
        if isinstance(held, InvalidInput):
            raise held
        if isinstance(prices, BaseException):
            raise prices
        if isinstance(held, BaseException):
            price_lines(wanted.lines, prices)
            raise held
        return prices

    async def _write(self, scope: Scope, print_: bytes, order: Order, card_token: str) -> Placed:
        state, _ = begin(self.definition)
        limit_s = self.definition.deadline_s(state.step)
        deadline_at = None if limit_s is None else order.placed_at + timedelta(seconds=limit_s)
        kind = event_type("placed")
        placed = Event(
            id=event_id(order.order_id, kind),
            type=kind,
            source=SOURCE,
            subject=str(order.order_id),
            time=order.placed_at,
            data=_placed_data(order, card_token),
        )
        answer = _answer(order)
        async with self.sessions.for_user(order.user_id) as session:
            stored = await claim_and_find(session.conn, scope, print_)
            if stored is None:
                await records.insert(
                    session.conn,
                    order,
                    state,
                    placed,
                    deadline_at=deadline_at,
                    answered=(scope, print_, answer),
                )
            self.reached("placement.before_commit")
        self.reached("placement.after_commit")
        return Placed(stored or answer, replayed=stored is not None, token=session.token)


def _placed_data(order: Order, card_token: str) -> dict[str, object]:
    return {
        "order_id": str(order.order_id),
        "user_id": order.user_id,
        "hold_id": str(order.hold_id),
        "lines": [asdict(line) for line in order.lines],
        "total_minor": order.total_minor,
        "currency": order.currency,
        "card_token": card_token,
        "placed_at": order.placed_at.isoformat(),
    }


def _answer(order: Order) -> StoredAnswer:
    body = {
        "order_id": str(order.order_id),
        "status": order.status.value,
        "total_minor": order.total_minor,
        "currency": order.currency,
    }
    return StoredAnswer(
        202,
        {"location": f"/api/v1/orders/{order.order_id}", "content-type": "application/json"},
        json.dumps(body, separators=(",", ":")).encode(),
    )
