"""Locks in Redis: a key with a lifetime, taken, kept and given back by scripts, and a counter.

What Redis cannot promise: a replica that is promoted may not have heard of the last hold, nor of
its token, and a server that lost its memory counts from 1 again. L2 then breaks, and the fence
refuses the new holders rather than accept old ones: it stands still on the safe side. Under memory
pressure a policy of `volatile-…` may evict a lock before its time; the fence is for that as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import redis.asyncio as redis_asyncio

from month5_kvstore.locks.locks import LockLost, check_names, check_ttl
from scalelab.clients.redis import map_errors

RandomBits = Callable[[int], int]
"""Takes n, returns a uniform integer of n bits (the shape of random.getrandbits)."""


@dataclass(frozen=True, slots=True)
class RedisHold:
    """Made by `RedisLocks.acquire`. token: the counter when it was taken."""

    locks: RedisLocks
    name: str
    holder: str
    grip: str
    token: int
    ttl_s: float

    async def renew(self) -> None:
        """Its lifetime begins anew, if it is still ours."""
        kept = await self.locks.run("renew", self.name, self.grip, int(self.ttl_s * 1000))
        if not kept:
            raise LockLost(f"{self.name} is not {self.holder}'s any more")

    async def release(self) -> None:
        """Delete it, if it is still ours."""
        await self.locks.run("release", self.name, self.grip)


class RedisLocks:
    """redis: stays the caller's. random_bits: grips, which tell one hold from every other."""

    def __init__(self, redis: redis_asyncio.Redis, *, random_bits: RandomBits) -> None:
        self._redis = redis
        self._random_bits = random_bits
        self._scripts: dict[str, Any] = {
            name: redis.register_script(_read_script(f"{name}.lua"))
            for name in ("acquire", "renew", "release")
        }

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> RedisHold | None:
        """Take it, or None."""
        check_names(name, holder)
        check_ttl(ttl_s)
        grip = f"{self._random_bits(128):032x}"
        token = await self.run("acquire", name, grip, holder, int(ttl_s * 1000))
        return RedisHold(self, name, holder, grip, token, ttl_s) if token else None

    async def holder(self, name: str) -> str | None:
        """Who has it."""
        check_names(name)
        with map_errors(read_only=True):
            found: Any = await self._redis.hget(_keys(name)[0], "holder")  # pyright: ignore[reportGeneralTypeIssues]
        return found.decode() if isinstance(found, bytes) else found

    async def run(self, script: str, name: str, *arguments: str | int) -> int:
        """One of the scripts, on one lock."""
        with map_errors():
            return int(await self._scripts[script](keys=_keys(name), args=arguments))


def _keys(name: str) -> list[str]:
    """The lock and its counter; the tag keeps them on one node of a cluster."""
    return [f"lock:{{{name}}}", f"lock:{{{name}}}:token"]


def _read_script(name: str) -> str:
    return resources.files("month5_kvstore.locks").joinpath(name).read_text(encoding="utf-8")
