"""Holds on stock: the one service that stands behind all three doors.

Invariants (the contract suite cites them)
    I1  free + held pieces of a product never change, and free is never negative.
    I2  A hold takes all its lines or none. Asked again with the same id it takes nothing more.
    I3  Whoever gave up before its approval came has taken nothing.

State lives in memory and on one event loop: between two awaits nobody else is here. A shop keeps it
in a database (partners/); the subject here is the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scalelab.clock import Clock
from scalelab.errors import Conflict, InvalidInput, NotFound, Overloaded

MOST_LINES = 50
MOST_WATCHERS = 100
MOST_TTL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class HoldLine:
    """quantity pieces of one product, >= 1."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Hold:
    """hold_id: the caller's choice: asking again is safe. ttl_s: until it ends by itself."""

    hold_id: str
    lines: tuple[HoldLine, ...]
    ttl_s: float

    def check(self) -> None:
        """Raises InvalidInput naming the field."""
        if not 1 <= len(self.hold_id) <= 64:
            raise InvalidInput("a hold has an id of 1 to 64 characters", field="hold_id")
        if not 1 <= len(self.lines) <= MOST_LINES:
            raise InvalidInput(f"a hold has 1 to {MOST_LINES} lines", field="lines")
        if len({line.product_id for line in self.lines}) < len(self.lines):
            raise InvalidInput("a product stands on one line", field="lines")
        if not all(1 <= line.quantity <= 1_000_000 for line in self.lines):
            raise InvalidInput("a line is for 1 to 1,000,000 pieces", field="quantity")
        if not 0 < self.ttl_s <= MOST_TTL_S:  # refuses NaN too
            raise InvalidInput(f"a hold lasts up to {MOST_TTL_S:.0f} s", field="ttl_s")


class StockCalls(Protocol):
    """What a client of any of the doors offers."""

    async def hold(self, hold: Hold, *, timeout_s: float) -> bool:
        """Hold all lines or none; False if this hold stood already.

        Raises InvalidInput, NotFound `unknown_product`, Conflict `out_of_stock` or
        `hold_differs`, Overloaded, and OutcomeUnknown where no answer came in time.
        """
        ...

    async def levels(self, product_ids: Sequence[str], *, timeout_s: float) -> dict[str, int]:
        """Free pieces of each product that is known."""
        ...


Approval = Callable[[Hold, float | None], Awaitable[None]]
"""Somebody who is asked before a hold is taken, with the seconds that are left for it."""


async def approve_all(_hold: Hold, _left_s: float | None) -> None:
    """Nobody has to be asked."""


@dataclass(frozen=True, slots=True)
class _Kept:
    lines: tuple[HoldLine, ...]
    ends_at_s: float


class StockDesk:
    """free: pieces by product. approval: asked before each new hold."""

    def __init__(
        self, free: Mapping[str, int], clock: Clock, *, approval: Approval = approve_all
    ) -> None:
        self._free = dict(free)
        self._clock = clock
        self._approval = approval
        self._holds: dict[str, _Kept] = {}
        self._watchers: set[asyncio.Event] = set()

    async def hold(self, hold: Hold, *, left_s: float | None = None) -> bool:
        """As StockCalls.hold. left_s: what the caller's deadline leaves; None is no deadline."""
        hold.check()
        self._end_due()
        if self._known(hold):
            return False
        await self._approval(hold, left_s)
        # Somebody may have been here while the approval was on its way: look again, from the start.
        self._end_due()
        if self._known(hold):
            return False
        for line in hold.lines:
            if line.product_id not in self._free:
                raise NotFound(f"no product {line.product_id[:64]!r}", code="unknown_product")
        if any(self._free[line.product_id] < line.quantity for line in hold.lines):
            raise Conflict("not enough stock", code="out_of_stock")
        self._move(hold.lines, -1)
        ends_at_s = self._clock.monotonic_s() + hold.ttl_s
        self._holds[hold.hold_id] = _Kept(hold.lines, ends_at_s)
        return True

    def levels(self, product_ids: Sequence[str]) -> dict[str, int]:
        """As StockCalls.levels."""
        self._end_due()
        return {name: self._free[name] for name in product_ids if name in self._free}

    async def watch(self, product_ids: Sequence[str]) -> AsyncGenerator[dict[str, int], None]:
        """The levels now and after every change, for as long as somebody iterates.

        A slow reader misses levels in between, never the last one. Raises NotFound, Overloaded.
        """
        if not set(product_ids) <= self._free.keys() or not product_ids:
            raise NotFound("an unknown product cannot be watched", code="unknown_product")
        if len(self._watchers) >= MOST_WATCHERS:
            raise Overloaded(f"{MOST_WATCHERS} watch already", code="watchers_full")
        changed = asyncio.Event()
        self._watchers.add(changed)
        told: dict[str, int] = {}
        try:
            while True:
                changed.clear()
                levels = self.levels(product_ids)
                if levels != told:
                    told = levels
                    yield levels
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def _known(self, hold: Hold) -> bool:
        kept = self._holds.get(hold.hold_id)
        if kept is not None and set(kept.lines) != set(hold.lines):
            raise Conflict("this hold is for other lines", code="hold_differs")
        return kept is not None

    def _end_due(self) -> None:
        now_s = self._clock.monotonic_s()
        for hold_id in [one for one, kept in self._holds.items() if kept.ends_at_s <= now_s]:
            self._move(self._holds.pop(hold_id).lines, 1)

    def _move(self, lines: Sequence[HoldLine], sign: int) -> None:
        for line in lines:
            self._free[line.product_id] += sign * line.quantity
        for changed in self._watchers:
            changed.set()
