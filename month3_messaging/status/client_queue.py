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

from month3_messaging.orders import FINAL, StatusChange

_LOADING = -1


class Update:
    """An order's new status, and its form on the wire, made once for all clients of a node."""

    __slots__ = ("_frame", "change", "is_final", "order_id", "version")

    def __init__(self, order_id: UUID, change: StatusChange) -> None:
        self.order_id = order_id
        self.change = change
        self.version = change.version
        self.is_final = change.status in FINAL
        self._frame: bytes | None = None

    def frame(self, encoded: Callable[[Update], bytes]) -> bytes:
        """The bytes that `encoded` made of it at the first call."""
        if self._frame is None:
            self._frame = encoded(self)
        return self._frame


class _Followed:
    """One order. known: the last version handed out. Hashed as an object: ids of orders are dear
    to hash, and an update is looked up once for every client."""

    __slots__ = ("known", "order_id")

    def __init__(self, order_id: UUID) -> None:
        self.order_id = order_id
        self.known = _LOADING


class ClientQueue:
    """What waits for one client."""

    __slots__ = ("_followed", "_pending")

    def __init__(self) -> None:
        self._followed: dict[UUID, _Followed] = {}
        self._pending: dict[_Followed, Update] = {}

    def __len__(self) -> int:
        """How many updates wait."""
        return len(self._pending)

    @property
    def followed(self) -> tuple[UUID, ...]:
        """Orders, in the order in which following began."""
        return tuple(self._followed)

    def follows(self, order_id: UUID) -> bool:
        """Whether updates of the order are taken."""
        return order_id in self._followed

    def known(self, order_id: UUID) -> int:
        """The last version handed out; 0 while loading or not followed."""
        followed = self._followed.get(order_id)
        return 0 if followed is None else max(0, followed.known)

    def follow(self, order_id: UUID) -> None:
        """Take updates of the order from now on; they wait until `load`."""
        followed = self._followed.setdefault(order_id, _Followed(order_id))
        followed.known = _LOADING
        self._pending.pop(followed, None)

    def load(self, order_id: UUID, version: int) -> None:
        """The history up to `version` has been handed out by the caller."""
        followed = self._followed.get(order_id)
        if followed is None:
            return
        followed.known = version
        waiting = self._pending.get(followed)
        if waiting is not None and waiting.version <= version:
            del self._pending[followed]

    def unfollow(self, order_id: UUID) -> None:
        """Forget the order and what waits of it."""
        followed = self._followed.pop(order_id, None)
        if followed is not None:
            self._pending.pop(followed, None)

    def offer(self, update: Update) -> bool:
        """Let `update` wait unless it is no news; whether there is something to hand out."""
        followed = self._followed.get(update.order_id)
        if followed is None or update.version <= followed.known:
            return False
        waiting = self._pending.get(followed)
        if waiting is None or waiting.version < update.version:
            self._pending[followed] = update
        return followed.known != _LOADING

    def pass_on(self, update: Update) -> bool:
        """Whether `update` may go out at once, before nothing that waits; it then counts as handed
        out. If not, it is left to `offer`."""
        followed = self._followed.get(update.order_id)
        if self._pending or followed is None or not _LOADING < followed.known < update.version:
            return False
        followed.known = update.version
        return True

    def take(self) -> list[Update]:
        """Everything that waits and is not loading; it counts as handed out."""
        taken: list[Update] = []
        loading: dict[_Followed, Update] = {}
        for followed, update in self._pending.items():
            if followed.known == _LOADING:
                loading[followed] = update
            else:
                followed.known = update.version
                taken.append(update)
        self._pending = loading
        return taken
