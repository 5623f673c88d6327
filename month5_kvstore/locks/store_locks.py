"""Locks in our own store: a key under a lease, made by a transaction; its revision is the token.

All keys of a lock lie in one group, whose revisions only grow, over elections and restarts too. The
lease runs on the log's time, which stands still while nobody leads: a hold may last longer than it
was asked for, never shorter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from month5_kvstore.client import LeasedKeys
from month5_kvstore.locks.locks import LockLost, check_names, check_ttl
from scalelab.errors import NotFound, Unavailable

RandomBits = Callable[[int], int]
"""Takes n, returns a uniform integer of n bits (the shape of random.getrandbits)."""
_CALL_S = 5.0


@dataclass(frozen=True, slots=True)
class StoreHold:
    """Made by `StoreLocks.acquire`. token: the revision that made the key."""

    keys: LeasedKeys
    name: str
    holder: str
    token: int
    lease: int

    async def renew(self) -> None:
        """Keep the lease alive; the key hangs on it and on nothing else."""
        try:
            await self.keys.keep_alive(_key(self.name), self.lease, deadline_s=_CALL_S)
        except NotFound as error:
            raise LockLost(f"{self.name} is not {self.holder}'s any more") from error

    async def release(self) -> None:
        """End the lease, and the key with it."""
        await self.keys.revoke(_key(self.name), self.lease, deadline_s=_CALL_S)


class StoreLocks:
    """keys: stays the caller's. random_bits: grips, which tell one hold from every other."""

    def __init__(self, keys: LeasedKeys, *, random_bits: RandomBits) -> None:
        self._keys = keys
        self._random_bits = random_bits

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> StoreHold | None:
        """A lease, and the key under it if there is none; else the lease goes."""
        check_names(name, holder)
        check_ttl(ttl_s)
        key = _key(name)
        if await self.holder(name) is not None:
            return None
        grip = json.dumps({"holder": holder, "grip": f"{self._random_bits(128):032x}"}).encode()
        lease = await self._keys.grant(key, ttl_s, deadline_s=_CALL_S)
        try:
            made = await self._keys.make(key, grip, lease, deadline_s=_CALL_S)
        except NotFound as error:
            raise Unavailable("the lease ended before it was used", code="store_slow") from error
        if made.value != grip:
            await self._keys.revoke(key, lease, deadline_s=_CALL_S)
            return None
        return StoreHold(self._keys, name, holder, made.created, lease)

    async def holder(self, name: str) -> str | None:
        """Who has it, confirmed by a majority."""
        check_names(name)
        key = _key(name)
        _, found = await self._keys.find(key, deadline_s=_CALL_S)
        return next((json.loads(one.value)["holder"] for one in found if one.key == key), None)


def _key(name: str) -> bytes:
    return b"{lock/%s}" % name.encode()
