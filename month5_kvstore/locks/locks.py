"""What a lock service does, whoever keeps it: Redis, ZooKeeper, Consul, or this month's own store.

A lock here is a lease: it ends by itself when its holder is not heard. So it excludes others only
for as long as nobody stands still, which a process cannot know of itself: it may be stopped, or
its clock may be, between the look at the clock and the deed. What the lock protects must therefore
look at the token (see fencing.py). A lock without that saves work; with it, it is safe.

Guarantees of every service (one contract suite holds them)
    L1  While a hold lasts, on the service's clock, nobody else gets the lock.
    L2  Every hold of a lock has a higher token than all holds of that lock before it.
    L3  A hold that has ended is not renewed: LockLost; its release harms no successor.
    L4  An attempt whose answer was lost may be repeated, or its hold ends by itself.
"""

from __future__ import annotations

from typing import Protocol

from scalelab.errors import Conflict, InvalidInput

_NAME_MAX = 100


class LockLost(Conflict):
    """The hold has ended: somebody else may be in. Whatever it was for must stop."""

    code = "lock_lost"


class Hold(Protocol):
    """A lock, held for a while."""

    @property
    def name(self) -> str: ...

    @property
    def holder(self) -> str: ...

    @property
    def token(self) -> int:
        """To be shown to whatever the lock protects (L2)."""
        ...

    async def renew(self) -> None:
        """Its time begins anew. Raises LockLost, or Unavailable or OutcomeUnknown: try again."""
        ...

    async def release(self) -> None:
        """Let the next one in. Repeatable, and harmless after the end (L3)."""
        ...


class Locks(Protocol):
    """Locks by name."""

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> Hold | None:
        """The lock for `ttl_s` from now, or None while somebody has it. Waits for nobody.

        Raises Unavailable or OutcomeUnknown; what was taken then ends by itself (L4).
        """
        ...

    async def holder(self, name: str) -> str | None:
        """Who has it, as last heard; None if nobody has."""
        ...


def check_names(name: str, holder: str = "x") -> None:
    """Raises InvalidInput for what some service could not hold."""
    for field, text in (("name", name), ("holder", holder)):
        plain = text.isascii() and all(c.isalnum() or c in "-_." for c in text)
        if not plain or not 1 <= len(text) <= _NAME_MAX or text.startswith("."):
            raise InvalidInput(f"{text!r} is no name for a lock or its holder", field=field)


def check_ttl(ttl_s: float, least_s: float = 0.1) -> None:
    """Raises InvalidInput unless a hold may last so long."""
    if not least_s <= ttl_s <= 3600:
        raise InvalidInput(f"a hold lasts {least_s} s to an hour", field="ttl_s")
