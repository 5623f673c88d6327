"""Who follows which order on this node, within bounds per user and in all.

Single-threaded: everything happens in one event loop, and nothing here waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

from month3_messaging.orders import StatusChange
from month3_messaging.status.client_queue import Update
from scalelab.errors import Overloaded, RateLimited


class Follower(Protocol):
    """Someone who is told about orders. Neither method may wait or raise."""

    def hear(self, update: Update) -> None:
        """An order moved."""
        ...

    def look_again(self) -> None:
        """Updates may have been lost: the history knows."""
        ...


class Followers:
    """Fans updates out. per_user, in_all: how many may be admitted at once."""

    def __init__(self, *, per_user: int, in_all: int) -> None:
        self._per_user_max = per_user
        self._in_all = in_all
        self._by_order: defaultdict[UUID, set[Follower]] = defaultdict(set)
        self._per_user: Counter[str] = Counter()

    @property
    def admitted(self) -> int:
        """How many are admitted now."""
        return self._per_user.total()

    @property
    def orders(self) -> int:
        """How many orders are followed now."""
        return len(self._by_order)

    @contextmanager
    def admit(self, user_id: str) -> Generator[None]:
        """Count one more of the user while the body runs. Raises RateLimited, Overloaded."""
        if self._per_user[user_id] >= self._per_user_max:
            raise RateLimited(
                f"at most {self._per_user_max} streams per user at once", code="too_many_streams"
            )
        if self.admitted >= self._in_all:
            raise Overloaded("too many streams are open here", code="too_many_streams")
        self._per_user[user_id] += 1
        try:
            yield
        finally:
            self._per_user[user_id] -= 1
            if not self._per_user[user_id]:
                del self._per_user[user_id]

    def follow(self, order_id: UUID, follower: Follower) -> None:
        """Tell `follower` about the order from now on."""
        self._by_order[order_id].add(follower)

    def unfollow(self, order_id: UUID, follower: Follower) -> None:
        """Stop telling; nothing happens if it was not told."""
        told = self._by_order.get(order_id)
        if told is not None:
            told.discard(follower)
            if not told:
                del self._by_order[order_id]

    def spread(self, order_id: UUID, change: StatusChange) -> None:
        """Tell everyone who follows the order."""
        told = self._by_order.get(order_id)
        if told:
            update = Update(order_id, change)
            # A copy: who hears may unfollow.
            for follower in tuple(told):
                follower.hear(update)

    def look_again(self) -> None:
        """Tell everyone that updates may have been lost."""
        for follower in {one for told in self._by_order.values() for one in told}:
            follower.look_again()
