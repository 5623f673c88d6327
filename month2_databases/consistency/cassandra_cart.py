"""The cart on the ring, twice: agreed upon, and plain.

One partition holds a cart: its lines, and once (a static column) the order it became. That is what
makes compare-and-set possible at all: a condition may look at one partition, never at two.

`AgreedCart` makes every change by compare-and-set and keeps all promises of cart.py, for four
rounds of messages a change instead of one. Under contention alone, with every node well, the ring
may answer that it does not know whether a change was made. A change that says the same when it is
made twice is then made again; an add leaves a mark beside the quantity, by which it finds out.

`PlainCart` writes what its caller believes: quick, up while a quorum is, and the last writer wins.
Mixing both on one cart keeps nothing: a plain write takes no part in the agreement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TypeVar

from month2_databases.consistency.cart import CartEmpty, check_quantity, closed, total
from month2_databases.consistency.cassandra_client import Ring, Row, Swap
from month2_databases.consistency.quorum import Level
from scalelab.errors import OutcomeUnknown, Overloaded, Unavailable
from scalelab.resilience.backoff import Backoff

TABLE = """
CREATE TABLE IF NOT EXISTS cart (
    cart text,
    sku text,
    quantity int,
    marks frozen<list<text>>,
    became text STATIC,
    PRIMARY KEY (cart, sku)
)
"""
_ATTEMPTS = 20
_MARKS = 64
"""Adds to one line that a line remembers: more than can come between a try and its check."""
_BACKOFF = Backoff(first_s=0.01, cap_s=0.5)
_CONTENDED = ("outcome_unknown", "replica_timeout")
_LINES = "SELECT sku, quantity FROM cart WHERE cart = ?"
_BECAME = "SELECT became FROM cart WHERE cart = ? LIMIT 1"
_HELD = "SELECT quantity, marks, became FROM cart WHERE cart = ? AND sku = ?"

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class PlainCart:
    """Reads and writes at levels of one's choice. Keeps C4 of cart.py, and C1 to C3 by luck."""

    def __init__(
        self, ring: Ring, *, read: Level = Level.QUORUM, write: Level = Level.QUORUM
    ) -> None:
        self._ring = ring
        self._read = read
        self._write = write

    async def lines(self, cart: str) -> Mapping[str, int]:
        """Quantity by SKU, as new as the levels allow."""
        rows = await self._ring.read(_LINES, (cart,), level=self._read)
        return {row["sku"]: row["quantity"] for row in rows if row["quantity"]}

    async def set_quantity(self, cart: str, sku: str, quantity: int) -> None:
        """Write the quantity; also into a cart that became an order."""
        check_quantity(quantity, least=0)
        await self._ring.write(
            "UPDATE cart SET quantity = ? WHERE cart = ? AND sku = ?",
            (quantity or None, cart, sku),
            level=self._write,
        )

    async def add(self, cart: str, sku: str, quantity: int) -> None:
        """Read, add, write. What others add in between is lost."""
        check_quantity(quantity, least=1)
        held = (await self.lines(cart)).get(sku, 0)
        await self.set_quantity(cart, sku, total(held, quantity))

    async def check_out(self, cart: str, order: str) -> str:
        """Look, then write. Two at once may both be told that they made the order."""
        if not await self.lines(cart):
            raise CartEmpty(f"cart {cart} is empty")
        rows = await self._ring.read(_BECAME, (cart,), level=self._read)
        if rows and rows[0]["became"] is not None:
            return str(rows[0]["became"])
        await self._ring.write(
            "UPDATE cart SET became = ? WHERE cart = ?", (order, cart), level=self._write
        )
        return order


class AgreedCart:
    """CartStore by compare-and-set. random, sleep: of the wait between tries under contention."""

    def __init__(self, ring: Ring, *, random: Random, sleep: Sleep) -> None:
        self._ring = ring
        self._random = random
        self._sleep = sleep

    async def lines(self, cart: str) -> Mapping[str, int]:
        rows = await self._known(lambda: self._ring.read_agreed(_LINES, (cart,)))
        return {row["sku"]: row["quantity"] for row in rows if row["quantity"]}

    async def set_quantity(self, cart: str, sku: str, quantity: int) -> None:
        check_quantity(quantity, least=0)
        statement = "UPDATE cart SET quantity = ? WHERE cart = ? AND sku = ? IF became = null"
        parameters = (quantity or None, cart, sku)
        swap = await self._known(lambda: self._ring.compare_and_set(statement, parameters))
        if not swap.applied:
            raise closed(cart)

    async def add(self, cart: str, sku: str, quantity: int) -> None:
        check_quantity(quantity, least=1)
        mark = f"{self._random.getrandbits(64):016x}"
        rows = await self._ring.read(_HELD, (cart, sku))
        held: Row = rows[0] if rows else {}
        for attempt in range(1, _ATTEMPTS + 1):
            swap = await self._try_add(cart, sku, quantity, mark, held)
            if swap is None:  # the ring does not know, and says so; an agreed read does
                rows = await self._known(lambda: self._ring.read_agreed(_HELD, (cart, sku)))
                held = rows[0] if rows else {}
            else:
                held = swap.found
            if (swap is not None and swap.applied) or mark in (held.get("marks") or ()):
                return
            if held.get("became") is not None:
                raise closed(cart)
            await self._rest(attempt)
        raise Overloaded(f"too many change cart {cart} at once", code="cart_contended")

    async def check_out(self, cart: str, order: str) -> str:
        # Not judged by a condition: a cart is never emptied after its check-out (C2), and one
        # that is emptied just before becomes an order of nothing, which its owner asked for.
        if not await self.lines(cart):
            raise CartEmpty(f"cart {cart} is empty")
        statement = "UPDATE cart SET became = ? WHERE cart = ? IF became = null"
        swap = await self._known(lambda: self._ring.compare_and_set(statement, (order, cart)))
        return order if swap.applied else str(swap.found["became"])

    async def _try_add(
        self, cart: str, sku: str, quantity: int, mark: str, held: Row
    ) -> Swap | None:
        """One compare-and-set from what is held; None if the outcome is unknown."""
        marks = held.get("marks")
        try:
            return await self._ring.compare_and_set(
                "UPDATE cart SET quantity = ?, marks = ? WHERE cart = ? AND sku = ?"
                " IF quantity = ? AND marks = ? AND became = null",
                (
                    total(held.get("quantity") or 0, quantity),
                    [*(marks or ()), mark][-_MARKS:],
                    cart,
                    sku,
                    held.get("quantity"),
                    marks,
                ),
            )
        except OutcomeUnknown:
            return None

    async def _known(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the outcome is known. Only for what says the same when it is said twice."""
        for attempt in range(1, _ATTEMPTS):
            try:
                return await ask()
            except (OutcomeUnknown, Unavailable) as error:
                if error.stable_code not in _CONTENDED:
                    raise
                await self._rest(attempt)
        return await ask()

    async def _rest(self, attempt: int) -> None:
        await self._sleep(_BACKOFF.delay_s(attempt, self._random.random()))
