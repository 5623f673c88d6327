"""Orders for a running stack: placed through its door and followed to their ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

from month3_messaging.partners import DECLINED_CARD
from scalelab.clients.http import HttpClient
from scalelab.errors import OutcomeUnknown, Overloaded, ScalelabError, Unavailable

PAYING_CARD = "tok_4242424242424242"
_ENDS = frozenset({"confirmed", "payment_failed", "refunded"})
_AT_ONCE = 16
_POLL_S = 0.1
_DECLINED_SHARE = 0.1


@dataclass(slots=True)
class Placed:
    """accepted: totals in minor units by order id. refused: by stable code. ends: the last status
    by order id, of those that were seen to end."""

    accepted: dict[str, int] = field(default_factory=dict[str, int])
    refused: Counter[str] = field(default_factory=Counter[str])
    ends: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def still_open(self) -> set[str]:
        """Accepted, and not seen to end."""
        return self.accepted.keys() - self.ends.keys()

    @property
    def confirmed_minor(self) -> int:
        """What the confirmed orders cost together: the money that must have been kept."""
        return sum(self.accepted[one] for one, end in self.ends.items() if end == "confirmed")


async def place_orders(
    http: HttpClient,
    token: str,
    number: int,
    *,
    products: int,
    random: Random,
    told: Callable[[], None] = lambda: None,
    tries: int = 200,
) -> Placed:
    """Place `number` orders of one user, a tenth of them with a card that is declined.

    An answer that did not come is asked for again with the same key, so each is placed once.
    told: called after each. tries: for one order, a tenth of a second apart.
    """
    placed = Placed()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> None:
        body: dict[str, object] = {
            "lines": [
                {"product_id": f"p-{random.randint(1, products):04}", "quantity": 1},
            ],
            "card_token": DECLINED_CARD if random.random() < _DECLINED_SHARE else PAYING_CARD,
        }
        async with gate:
            await _place(http, token, body, placed, tries=tries)
        told()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(one())
    return placed


async def _place(
    http: HttpClient, token: str, body: dict[str, object], placed: Placed, *, tries: int
) -> None:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
    for left in reversed(range(tries)):
        try:
            answer = await http.post("/api/v1/orders", body, headers=headers)
        except (Unavailable, OutcomeUnknown, Overloaded) as error:
            if not left:
                placed.refused[error.stable_code] += 1
                return
            await asyncio.sleep(_POLL_S)
        except ScalelabError as error:
            placed.refused[error.stable_code] += 1
            return
        else:
            told = answer.json()
            placed.accepted[told["order_id"]] = told["total_minor"]
            return


async def follow(http: HttpClient, token: str, placed: Placed, *, within_s: float) -> None:
    """Poll until every accepted order has ended, or `within_s` has passed.

    `cancelled` is an end only for an order that was never paid, and may become `refunded`: it is
    noted, and asked for again until the time is up.
    """
    headers = {"Authorization": f"Bearer {token}"}
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + within_s
    waiting = set(placed.accepted)
    while waiting and loop.time() < give_up_s:
        for order_id in tuple(waiting):
            try:
                answer = await http.get(f"/api/v1/orders/{order_id}", headers=headers)
            except (Unavailable, OutcomeUnknown, Overloaded):
                break
            status = answer.json()["status"]
            if status in _ENDS or status == "cancelled":
                placed.ends[order_id] = status
            if status in _ENDS:
                waiting.discard(order_id)
        await asyncio.sleep(_POLL_S)
