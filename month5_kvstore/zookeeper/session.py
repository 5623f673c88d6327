"""One ZooKeeper session: nodes made, read, watched and deleted, each call with a deadline.

kazoo talks to the server in threads of its own; here every call is a coroutine, and every failure
one of our errors. The library pings for us, so a session says that the process runs, not that it
is fit. After a session has expired the library quietly begins another one; this object does not: it
is lost from then on, since what hung on the old session is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from kazoo import client as kazoo_client  # pyright: ignore[reportMissingTypeStubs]
from kazoo import exceptions as kazoo_errors  # pyright: ignore[reportMissingTypeStubs]
from kazoo.handlers.threading import KazooTimeoutError  # pyright: ignore[reportMissingTypeStubs]
from kazoo.protocol.states import KazooState  # pyright: ignore[reportMissingTypeStubs]

from scalelab.errors import Conflict, NotFound, OutcomeUnknown, ScalelabError, Unavailable

_SILENT = logging.getLogger("month5_kvstore.zookeeper.kazoo")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class SessionLost(Unavailable):
    """The session has ended, and with it every node that hung on it. Another one may do."""

    code = "session_lost"


@dataclass(frozen=True, slots=True)
class Node:
    """value; created, modified: numbers of the server's transactions, one order for all changes.

    owner: the session that it hangs on, or 0.
    """

    value: bytes
    created: int
    modified: int
    owner: int


class ZooKeeperSession:
    """Made by `open_session`. timeout_s: for each answer."""

    def __init__(self, client: Any, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._client = client
        self._loop = loop
        self._timeout_s = timeout_s
        self._lost = False
        self.id: int = client.client_id[0]
        """Of this session, as `Node.owner` names it."""
        client.add_listener(self._state_changed)

    @property
    def lost(self) -> bool:
        """Whether it is known to have ended."""
        return self._lost

    def check(self) -> None:
        """Raises SessionLost if it is known to have ended."""
        if self._lost:
            raise SessionLost("the session with ZooKeeper has ended")

    async def create(self, path: str, value: bytes, *, ephemeral: bool = False) -> int:
        """A node, and the ones above it; returns `created`. Raises Conflict if it is there."""
        self.check()
        asked = self._client.create_async(
            path, value, ephemeral=ephemeral, makepath=True, include_data=True
        )
        _, stat = await self._answer(asked, changes=True)
        return int(stat.czxid)

    async def get(self, path: str, on_change: Callable[[], None] | None = None) -> Node | None:
        """A node, or None. on_change: called once, in this loop, when that is true no more."""
        self.check()
        try:
            value, stat = await self._answer(
                self._client.get_async(path, watch=self._watcher(on_change))
            )
        except NotFound:
            if on_change is None:
                return None
            # A node that is not there has no watch by `get`; `exists` waits for its creation.
            asked = self._client.exists_async(path, watch=self._watcher(on_change))
            if await self._answer(asked) is None:
                return None
            return await self.get(path)
        return Node(value, int(stat.czxid), int(stat.mzxid), int(stat.ephemeralOwner))

    async def children(
        self, path: str, on_change: Callable[[], None] | None = None
    ) -> list[str] | None:
        """Names below a node, sorted; None if it is not there. on_change: as in `get`."""
        self.check()
        try:
            asked = self._client.get_children_async(path, watch=self._watcher(on_change))
            return sorted(await self._answer(asked))
        except NotFound:
            return None

    async def set(self, path: str, value: bytes) -> None:
        """Write a node that is there. Raises NotFound."""
        self.check()
        await self._answer(self._client.set_async(path, value), changes=True)

    async def ensure(self, path: str) -> None:
        """A node without a value, and those above it, if they are not there."""
        self.check()
        await self._answer(self._client.ensure_path_async(path), changes=True)

    async def delete(self, path: str) -> None:
        """Raises NotFound."""
        self.check()
        await self._answer(self._client.delete_async(path), changes=True)

    async def _answer(self, asked: Any, *, changes: bool = False) -> Any:
        told: asyncio.Future[None] = self._loop.create_future()

        def tell(_asked: Any) -> None:  # in a thread of kazoo's
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(_settle, told)

        asked.rawlink(tell)
        try:
            async with asyncio.timeout(self._timeout_s):
                await told
            return asked.get(block=False)
        except TimeoutError as error:
            raise _unanswered(f"no answer in {self._timeout_s} s", changes=changes) from error
        except kazoo_errors.KazooException as error:
            raise _translated(error, changes=changes) from error

    def _watcher(self, on_change: Callable[[], None] | None) -> Callable[[Any], None] | None:
        if on_change is None:
            return None

        def watcher(_event: Any) -> None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(on_change)

        return watcher

    def _state_changed(self, state: Any) -> None:  # in a thread of kazoo's
        if state == KazooState.LOST:
            self._lost = True


@asynccontextmanager
async def open_session(
    hosts: str, *, ttl_s: float, timeout_s: float = 5.0
) -> AsyncGenerator[ZooKeeperSession, None]:
    """A session that the server ends `ttl_s` after it last heard of this process.

    hosts: `host:port,…`. The server rounds `ttl_s` to what its ticks allow. Raises Unavailable.
    """
    client: Any = kazoo_client.KazooClient(
        hosts=hosts,
        timeout=ttl_s,
        connection_retry={"max_tries": -1, "delay": 0.05, "backoff": 1.5, "max_delay": 0.5},
        command_retry={"max_tries": 0},
        logger=_SILENT,
    )
    try:
        # A thread, for kazoo waits here; it ends with the deadline, connected or not.
        await asyncio.to_thread(client.start, timeout_s)
    except KazooTimeoutError as error:
        raise Unavailable(f"ZooKeeper at {hosts} does not answer", code="zookeeper") from error
    try:
        yield ZooKeeperSession(client, asyncio.get_running_loop(), timeout_s)
    finally:
        await asyncio.shield(asyncio.to_thread(_close, client))


def _close(client: Any) -> None:
    with suppress(kazoo_errors.KazooException, OSError):
        client.stop()
    client.close()


def _settle(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)


def _unanswered(why: str, *, changes: bool) -> ScalelabError:
    if changes:
        return OutcomeUnknown(f"ZooKeeper: {why}")
    return Unavailable(f"ZooKeeper: {why}", code="zookeeper")


def _translated(error: Exception, *, changes: bool) -> ScalelabError:
    if isinstance(error, kazoo_errors.NoNodeError):
        return NotFound("there is no such node", code="no_node")
    if isinstance(error, kazoo_errors.NodeExistsError):
        return Conflict("the node is there already", code="node_exists")
    if isinstance(error, kazoo_errors.SessionExpiredError):
        return SessionLost("the session with ZooKeeper has ended")
    return _unanswered(repr(error), changes=changes)
