"""Locks in ZooKeeper: a node that hangs on a session of the holder's; its number is the token.

Each hold has a session of its own, whose time-out is the hold's. The library's thread keeps the
session alive while the process runs, so that a holder whose event loop hangs keeps the lock; the
watchdog's bound on the whole hold is for that.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from month5_kvstore.locks.locks import LockLost, check_names, check_ttl
from month5_kvstore.zookeeper import SessionLost, ZooKeeperSession, open_session
from scalelab.errors import Conflict

_LOCKS = "/scalelab/locks"


@dataclass(frozen=True, slots=True)
class ZooKeeperHold:
    """Made by `ZooKeeperLocks.acquire`. token: the transaction that made the node."""

    session: ZooKeeperSession
    stack: AsyncExitStack
    name: str
    holder: str
    token: int

    async def renew(self) -> None:
        """See that the node is there and this hold's."""
        try:
            node = await self.session.get(f"{_LOCKS}/{self.name}")
        except SessionLost as error:
            await self.stack.aclose()
            raise LockLost(f"the session of {self.holder} has ended") from error
        if node is None or node.created != self.token:
            await self.stack.aclose()
            raise LockLost(f"{self.name} is not {self.holder}'s any more")

    async def release(self) -> None:
        """End the session, and the node with it."""
        await self.stack.aclose()


class ZooKeeperLocks:
    """hosts: `host:port,…`. A session is begun for each attempt and each question."""

    def __init__(self, hosts: str) -> None:
        self._hosts = hosts

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> ZooKeeperHold | None:
        """A session and a node on it, or None while there is one."""
        check_names(name, holder)
        check_ttl(ttl_s)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(open_session(self._hosts, ttl_s=ttl_s))
            path = f"{_LOCKS}/{name}"
            if await session.get(path) is not None:
                return None
            try:
                token = await session.create(path, holder.encode(), ephemeral=True)
            except Conflict as error:
                if error.stable_code != "node_exists":
                    raise
                return None
            return ZooKeeperHold(session, stack.pop_all(), name, holder, token)

    async def holder(self, name: str) -> str | None:
        """Who has it."""
        check_names(name)
        async with open_session(self._hosts, ttl_s=10.0) as session:
            node = await session.get(f"{_LOCKS}/{name}")
        return None if node is None else node.value.decode()
