"""Levels of a product in many warehouses, as one question with one deadline.

A sum over those that answered is a lower bound: enough to promise a piece, never enough to say that
none is left. So the answer to "is it in stock?" has three values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from month3_messaging.fan.gathered import Gathered
from month3_messaging.fan.hedging import Hedging
from month3_messaging.fan.scatter import Ask, Part, ScatterSettings, scatter
from month3_messaging.rpc import StockCalls
from scalelab.clock import Clock
from scalelab.resilience import Deadline

Levels = dict[str, int]


@dataclass(frozen=True, slots=True)
class Warehouse:
    """replica: another door to the same stock, for a second request; None if there is none."""

    stock: StockCalls
    replica: StockCalls | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """gathered: free pieces by warehouse, and which warehouses are missing and why."""

    gathered: Gathered[Levels]

    @property
    def at_least(self) -> Mapping[str, int]:
        """Free pieces of each product in the warehouses that answered, together."""
        together: Counter[str] = Counter()
        for levels in self.gathered.answers.values():
            together.update(levels)
        return together

    def has(self, product_id: str, quantity: int) -> bool | None:
        """Whether so many pieces are free in all; None if the missing warehouses decide it."""
        if self.at_least.get(product_id, 0) >= quantity:
            return True
        return False if self.gathered.complete else None


class StockFan:
    """warehouses: by name. Their clients belong to whoever made them."""

    def __init__(
        self,
        warehouses: Mapping[str, Warehouse],
        clock: Clock,
        *,
        settings: ScatterSettings = ScatterSettings(),  # noqa: B008 - it is frozen
        hedging: Hedging | None = None,
    ) -> None:
        self._warehouses = dict(warehouses)
        self._clock = clock
        self._settings = settings
        self._hedging = hedging

    async def levels(self, product_ids: Sequence[str], *, timeout_s: float) -> Availability:
        """Ask every warehouse; what has not answered after `timeout_s` is missing, not an error."""
        deadline = Deadline.after(timeout_s, now_s=self._clock.monotonic_s())
        gathered = await scatter(
            [_part(name, house, product_ids) for name, house in self._warehouses.items()],
            deadline=deadline,
            clock=self._clock,
            settings=self._settings,
            hedging=self._hedging,
        )
        return Availability(gathered)


def _part(name: str, warehouse: Warehouse, product_ids: Sequence[str]) -> Part[Levels]:
    second = None if warehouse.replica is None else _asking(warehouse.replica, product_ids)
    return Part(name, _asking(warehouse.stock, product_ids), second)


def _asking(stock: StockCalls, product_ids: Sequence[str]) -> Ask[Levels]:
    async def ask(left_s: float) -> Levels:
        return await stock.levels(product_ids, timeout_s=left_s)

    return ask
