"""What one client is still owed: the latest state of each order it follows. Pure.

Theory of operation
    An update of an order replaces the one that waits for the same order, so what waits is
    bounded by what is followed, however long the client does not read. While an order's history
    is being read (`loading`), its updates wait beside it; `load` sets the point from which they
    count. The order of handing out is that in which orders first had news.

Invariants (tests cite them)
    Q1  At most one update waits per followed order.
    Q2  Versions handed out of one order ascend strictly, from the one the client named.
    Q3  After an update was offered and everything taken, the client has that version or a later
        one of that order.
    Q4  Nothing of an order that is not followed is handed out.
Absent on purpose: every single version. A client that must see each of them reads the history.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from month3_messaging.orders import StatusChange

_LOADING = -1


class Update:
    """An order's new status, and its form on the wire, made once for all clients of a node."""

    __slots__ = ("_frame", "change", "order_id")

    def __init__(self, order_id: UUID, change: StatusChange) -> None:
        self.order_id = order_id
        self.change = change
        self._frame: bytes | None = None

    def frame(self, encoded: Callable[[Update], bytes]) -> bytes:
        """The bytes that `encoded` made of it at the first call."""
        if self._frame is None:
            self._frame = encoded(self)
        return self._frame


class ClientQueue:
    """What waits for one client."""

    __slots__ = ("_known", "_pending")

    def __init__(self) -> None:
        self._known: dict[UUID, int] = {}
        self._pending: dict[UUID, Update] = {}

    def __len__(self) -> int:
        """How many updates wait."""
        return len(self._pending)

    @property
    def followed(self) -> tuple[UUID, ...]:
        """Orders, in the order in which following began."""
        return tuple(self._known)

    def follows(self, order_id: UUID) -> bool:
        """Whether updates of the order are taken."""
        return order_id in self._known

    def known(self, order_id: UUID) -> int:
        """The last version handed out; 0 while loading or not followed."""
        return max(0, self._known.get(order_id, 0))

    def follow(self, order_id: UUID) -> None:
        """Take updates of the order from now on; they wait until `load`."""
        self._known[order_id] = _LOADING
        self._pending.pop(order_id, None)

    def load(self, order_id: UUID, version: int) -> None:
        """The history up to `version` has been handed out by the caller."""
        if order_id not in self._known:
            return
        self._known[order_id] = version
        waiting = self._pending.get(order_id)
        if waiting is not None and waiting.change.version <= version:
            del self._pending[order_id]

    def unfollow(self, order_id: UUID) -> None:
        """Forget the order and what waits of it."""
        self._known.pop(order_id, None)
        self._pending.pop(order_id, None)

    def offer(self, update: Update) -> bool:
        """Let `update` wait unless it is no news; whether there is something to hand out."""
        order_id = update.order_id
        known = self._known.get(order_id)
        if known is None or update.change.version <= known:
            return False
        waiting = self._pending.get(order_id)
        if waiting is None or waiting.change.version < update.change.version:
            self._pending[order_id] = update
        return known != _LOADING

    def take(self) -> list[Update]:
        """Everything that waits and is not loading; it counts as handed out."""
        known = self._known
        taken = [update for order, update in self._pending.items() if known[order] != _LOADING]
        for update in taken:
            known[update.order_id] = update.change.version
            del self._pending[update.order_id]
        return taken
