"""ZooKeeper as a registry: an instance is a node that hangs on a session of its owner's.

Each registration has a session of its own, whose time-out is the registration's time to live: when
the server has not heard of the process for so long, it ends the session and deletes the node. The
library's thread keeps the session, so a process that lives and is not fit must withdraw: its node
would stand for ever. A heartbeat asks whether the node is still there, and still hangs on the
session that made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Self

from month5_kvstore.discovery.instances import Instance, check_label, check_ttl, decode, encode
from month5_kvstore.discovery.registry import RegistrationLost
from month5_kvstore.zookeeper import Node, SessionLost, ZooKeeperSession, open_session
from scalelab.errors import Conflict, NotFound

_READER_TTL_S = 10.0
_SERVICES, _SETTINGS = "/scalelab/services", "/scalelab/settings"


class ZooKeeperRegistration:
    """One node. Made by `ZooKeeperRegistry.register`."""

    def __init__(self, session: ZooKeeperSession, instance: Instance, stack: AsyncExitStack):
        self._session = session
        self._instance = instance
        self._stack = stack

    @property
    def instance(self) -> Instance:
        """Who is registered."""
        return self._instance

    async def heartbeat(self) -> None:
        """See that the node is there and ours."""
        try:
            node = await self._session.get(_path_of(self._instance))
        except SessionLost as error:
            await self._stack.aclose()
            raise RegistrationLost(error.message) from error
        if node is None or node.owner != self._session.id:
            await self._stack.aclose()
            raise RegistrationLost(f"the node of {self._instance.id} is gone")

    async def withdraw(self) -> None:
        """End the session, and the node with it."""
        await self._stack.aclose()


class ZooKeeperRegistry:
    """An async context manager. One session for lookups, watches and settings, begun when needed
    and begun anew when it was lost."""

    def __init__(self, hosts: str) -> None:
        self._hosts = hosts
        self._stack = AsyncExitStack()
        self._current: ZooKeeperSession | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._current = None
        await self._stack.aclose()

    async def register(self, instance: Instance, *, ttl_s: float) -> ZooKeeperRegistration:
        """A session and a node on it. A node of the same id, left by a lost owner, is replaced."""
        check_ttl(ttl_s)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(open_session(self._hosts, ttl_s=ttl_s))
            path = _path_of(instance)
            while True:
                try:
                    await session.create(path, encode(instance), ephemeral=True)
                    break
                except Conflict as error:
                    if error.stable_code != "node_exists":
                        raise
                    with suppress(NotFound):
                        await session.delete(path)
            return ZooKeeperRegistration(session, instance, stack.pop_all())

    async def lookup(self, service: str) -> tuple[Instance, ...]:
        """Whose nodes are there. The server that is asked may be behind the others by a moment."""
        check_label(service, "service")
        names = await (await self._session()).children(f"{_SERVICES}/{service}")
        return await self._instances(service, names or [])

    async def watch(self, service: str) -> AsyncGenerator[tuple[Instance, ...], None]:
        """By a watch on the children, set anew before they are read."""
        check_label(service, "service")
        path = f"{_SERVICES}/{service}"
        given: tuple[Instance, ...] | None = None
        while True:
            changed = asyncio.Event()
            names = await (await self._session()).children(path, changed.set)
            if names is None:
                await (await self._session()).ensure(path)
                continue
            found = await self._instances(service, names)
            if found != given:
                given = found
                yield found
            await changed.wait()

    async def setting(self, key: str) -> bytes | None:
        """The value of the key's node."""
        check_label(key, "key")
        node = await (await self._session()).get(f"{_SETTINGS}/{key}")
        return None if node is None else node.value

    async def put_setting(self, key: str, value: bytes) -> None:
        """Write the key's node, or make it."""
        check_label(key, "key")
        path = f"{_SETTINGS}/{key}"
        while True:
            try:
                await (await self._session()).set(path, value)
                return
            except NotFound:
                try:
                    await (await self._session()).create(path, value)
                    return
                except Conflict as error:
                    if error.stable_code != "node_exists":
                        raise

    async def watch_setting(self, key: str) -> AsyncGenerator[bytes | None, None]:
        """By a watch on the key's node, there or not, set anew before it is read."""
        check_label(key, "key")
        path = f"{_SETTINGS}/{key}"
        given: Node | None = None
        first = True
        while True:
            changed = asyncio.Event()
            node = await (await self._session()).get(path, changed.set)
            if first or node != given:
                first, given = False, node
                yield None if node is None else node.value
            await changed.wait()

    async def _session(self) -> ZooKeeperSession:
        async with self._opening:
            if self._current is None or self._current.lost:
                self._current = None
                await self._stack.aclose()
                opened = open_session(self._hosts, ttl_s=_READER_TTL_S)
                self._current = await self._stack.enter_async_context(opened)
            return self._current

    async def _instances(self, service: str, names: list[str]) -> tuple[Instance, ...]:
        session = await self._session()
        nodes = await asyncio.gather(
            *(session.get(f"{_SERVICES}/{service}/{name}") for name in names)
        )
        return tuple(sorted(decode(node.value) for node in nodes if node is not None))


def _path_of(instance: Instance) -> str:
    return f"{_SERVICES}/{instance.service}/{instance.id}"
