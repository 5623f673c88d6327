"""Sessions the router hands out: a transaction on a primary, a read on whoever may answer.

Both are async context managers that give a psycopg connection, and remember beside it what an
HTTP answer wants to say: which shard, which server, in which role, and the token after a write.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from psycopg import AsyncConnection

from month2_databases.replication import ConsistencyToken, sign
from month2_databases.sharding.events import ReadRouted, Reason, Role, WriteEnded
from month2_databases.sharding.slot_entry import SlotEntry
from month2_databases.sharding.slot_guard import SlotFenced, StaleShardMap, admit, refusal_of
from scalelab.clients.postgres import CommitPosition
from scalelab.errors import ScalelabError, Unavailable

if TYPE_CHECKING:
    from month2_databases.sharding.shard import Shard


class _OnPrimary:
    """A connection to a shard's primary, behind its gate."""

    def __init__(self, shard: Shard, context: AbstractAsyncContextManager[AsyncConnection]) -> None:
        self._gate = shard.gate
        self._context = context
        self._admission = 0

    async def __aenter__(self) -> AsyncConnection:
        self._admission = self._gate.admit()
        try:
            return await self._context.__aenter__()
        except BaseException as error:
            self._gate.settle(self._admission, error)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._context.__aexit__(kind, raised, trace)
        except BaseException as error:
            # The block's own error comes back as the same object: not the primary's doing.
            self._gate.settle(self._admission, error, blamed=error is not raised)
            raise
        self._gate.settle(self._admission, raised, blamed=False)


class WriteSession:
    """One transaction on a shard's primary; commits when the block ends, rolls back if it raises.

    token: set once the transaction has committed; give it to the client. The write is visible to
    every read that brings it back.
    """

    def __init__(
        self,
        shard: Shard,
        key: bytes,
        tell: Callable[[WriteEnded], None],
        *,
        entry: SlotEntry[Shard] | None = None,
    ) -> None:
        self._key = key
        self._tell = tell
        self._entry = entry
        self.role = Role.PRIMARY
        self.token: str | None = None
        self._go_to(shard)

    def _go_to(self, shard: Shard) -> None:
        self._position = CommitPosition()
        self._work = _OnPrimary(shard, shard.primary.transaction(position=self._position))
        self.shard = shard.name
        self.server_name = shard.name

    async def __aenter__(self) -> AsyncConnection:
        try:
            if self._entry is None:
                return await self._work.__aenter__()
            return await self._enter_where_the_slot_is(self._entry)
        except ScalelabError as error:
            self._tell(WriteEnded(self.shard, error.stable_code))
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        result = "internal"
        try:
            await self._leave(kind, raised, trace)
            result = "ok" if raised is None else "rolled_back"
        except ScalelabError as error:
            result = error.stable_code
            raise
        finally:
            self._tell(WriteEnded(self.shard, result))
        if self._position.lsn is not None and self._position.timeline is not None:
            at = ConsistencyToken(self.shard, self._position.timeline, self._position.lsn)
            self.token = sign(at, self._key)

    async def _leave(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """COMMIT or ROLLBACK; a refusal by the shard's guard gets its own name."""
        try:
            await self._work.__aexit__(kind, raised, trace)
        except ScalelabError as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            raise refusal from error.__cause__

    async def _enter_where_the_slot_is(self, entry: SlotEntry[Shard]) -> AsyncConnection:
        """BEGIN on the shard that admits the slot; with a newer map where the first one does not.

        The block has not begun, so trying elsewhere repeats nothing.
        """
        while True:
            shard, version = entry.place()
            self._go_to(shard)
            conn = await self._work.__aenter__()
            try:
                await admit(conn, entry.slot, map_version=version)
                return conn
            except BaseException as error:  # noqa: BLE001 - raised again, or understood
                try:
                    await self._leave(type(error), error, error.__traceback__)
                except StaleShardMap as refusal:
                    await entry.learn(refusal, version)
                except SlotFenced as refusal:
                    await entry.wait(refusal)
                else:
                    raise


class ReadSession:
    """One autocommit connection for reading, on a replica that may answer, else on the primary.

    shard, server_name, role and reason are set when the block begins. newest: asks where the rows
    are by now, for a token of another shard; Unavailable if nobody can say.
    """

    def __init__(
        self,
        shard: Shard,
        wanted: ConsistencyToken | None,
        *,
        on_primary: Reason | None,
        newest: Callable[[], Awaitable[Shard]] | None = None,
        tell: Callable[[ReadRouted], None],
    ) -> None:
        self._wanted = wanted
        self._on_primary = on_primary
        self._newest = newest
        self._tell = tell
        self._stack = AsyncExitStack()
        self._go_to(shard)
        self.role = Role.PRIMARY
        self.reason = Reason.NO_REPLICA

    def _go_to(self, shard: Shard) -> None:
        self._shard = shard
        self.shard = shard.name
        self.server_name = shard.name

    async def __aenter__(self) -> AsyncConnection:
        if self._newest is not None and self._wanted is not None:
            self._go_to(await self._newest())
            if self._wanted.server == self.shard:
                self._on_primary = None
        conn = await self._enter_replica()
        if conn is None:
            reading = self._shard.primary.autocommit(read_only=True)
            conn = await self._stack.enter_async_context(_OnPrimary(self._shard, reading))
        self._tell(ReadRouted(self.shard, self.server_name, self.role, self.reason))
        return conn

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, raised, trace)

    async def _enter_replica(self) -> AsyncConnection | None:
        """A connection to a replica that shows what the token's owner wrote, if there is one."""
        if self._on_primary is not None:
            self.reason = self._on_primary
            return None
        candidates = self._shard.candidates(self._wanted)
        if not candidates and self._wanted is not None and self._shard.has_live_replica():
            self.reason = Reason.BEHIND
        for replica in candidates:
            try:
                async with AsyncExitStack() as stack:
                    conn = await stack.enter_async_context(replica.reading())
                    if not await self._shard.confirms(conn, self._wanted):
                        self.reason = Reason.BEHIND
                        continue
                    self._stack = stack.pop_all()
            except Unavailable:
                continue  # it died since it was last asked; the next one, or the primary
            self.server_name, self.role = replica.name, Role.REPLICA
            self.reason = Reason.ANY_WILL_DO if self._wanted is None else Reason.CAUGHT_UP
            return conn
        return None
