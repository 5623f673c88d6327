"""Desks that sell seats: each on one side of a store, and a note of all that it was told.

A seat holds the number of its buyer, 0 while it is free. A sale asks for a free seat; the desk that
is told yes tells its customer. Whoever is refused knows that the store did not answer, no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from month5_kvstore.client import KvClient
from month5_kvstore.simulation import Call
from scalelab.clients.http import HttpClient
from scalelab.errors import OutcomeUnknown, Unavailable

FREE = 0


class Store(Protocol):
    """One side's way to a store. Each call raises Unavailable, OutcomeUnknown."""

    async def open(self, seat: str) -> None:
        """Offer a seat that nobody offered before."""
        ...

    async def take(self, seat: str, buyer: int) -> bool:
        """Give a free seat to a buyer; whether it was free."""
        ...

    async def look(self, seat: str) -> int:
        """Who has it."""
        ...


@dataclass(frozen=True, slots=True)
class KvStore:
    """The month's store through its own client. deadline_s: of one call, retries included."""

    client: KvClient
    deadline_s: float

    async def open(self, seat: str) -> None:
        """See Store."""
        await self.client.put(seat.encode(), b"0", deadline_s=self.deadline_s)

    async def take(self, seat: str, buyer: int) -> bool:
        """See Store."""
        name, wanted = seat.encode(), b"%d" % buyer
        return await self.client.swap(name, b"0", wanted, deadline_s=self.deadline_s)

    async def look(self, seat: str) -> int:
        """See Store."""
        found = await self.client.get(seat.encode(), deadline_s=self.deadline_s)
        return int(found.value) if found is not None else FREE


@dataclass(frozen=True, slots=True)
class LwwStore:
    """One replica that keeps the last write it heard of: it can be read and written, no more."""

    replica: HttpClient

    async def open(self, seat: str) -> None:
        """See Store."""
        await self.replica.put(f"/v1/kv/{seat}", FREE)

    async def take(self, seat: str, buyer: int) -> bool:
        """See Store."""
        if await self.look(seat) != FREE:
            return False
        await self.replica.put(f"/v1/kv/{seat}", buyer)
        return True

    async def look(self, seat: str) -> int:
        """See Store."""
        answer = await self.replica.get(f"/v1/kv/{seat}")
        return int(answer.json()["value"])


@dataclass(frozen=True, slots=True)
class Sale:
    """What a desk was told. sold: None if it was refused. at_s: when it was told."""

    seat: str
    buyer: int
    sold: bool | None
    at_s: float


class Desk:
    """Sells through one side. buyers: gives each customer a number of their own. calls: the
    history, as the checker wants it; a call that was certainly not carried out is left out."""

    def __init__(self, store: Store, buyers: Callable[[], int], calls: list[Call]) -> None:
        self._store = store
        self._next = buyers
        self._calls = calls

    async def open_all(self, seats: Sequence[str]) -> None:
        """Offer them."""
        await asyncio.gather(*map(self._store.open, seats))

    async def sell_all(self, seats: Sequence[str]) -> list[Sale]:
        """A customer for each, all at once."""
        return list(await asyncio.gather(*map(self._sell, seats)))

    async def look_all(self, seats: Sequence[str]) -> dict[str, int | None]:
        """Who has each; None if the desk was refused."""
        return dict(zip(seats, await asyncio.gather(*map(self._look, seats)), strict=True))

    async def _sell(self, seat: str) -> Sale:
        buyer = self._next()
        work = self._store.take(seat, buyer)
        sold = await self._noted(seat, "cas", (FREE, buyer), work)
        return Sale(seat, buyer, None if sold is None else bool(sold), time.monotonic())

    async def _look(self, seat: str) -> int | None:
        return await self._noted(seat, "get", (), self._store.look(seat))

    async def _noted(
        self, seat: str, verb: str, arguments: tuple[int, ...], work: Awaitable[int]
    ) -> int | None:
        number, called_at = self._next(), time.monotonic_ns() // 1000
        try:
            answer = await work
        except Unavailable:
            return None
        except OutcomeUnknown:
            self._calls.append(Call(number, seat, verb, arguments, called_at, None, None))
            return None
        returned_at = time.monotonic_ns() // 1000
        self._calls.append(Call(number, seat, verb, arguments, called_at, returned_at, answer))
        return answer
