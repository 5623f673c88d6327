"""Sessions: a client's reads and writes on one cluster, and what it may not notice of replicas.

A `Reading` can fetch and nothing else. Code that writes asks for a `Writing`, so giving it a
reading is a type error; and where types do not look, the server refuses, on a replica and on the
primary alike: InvalidInput code `write_in_read_session`, nothing changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection, errors

from month2_databases.replication.causal_past import Past, after_message, after_read, after_write
from month2_databases.replication.causal_past import header as header_of
from month2_databases.replication.consistency_token import ConsistencyToken
from month2_databases.replication.primary_log import shown
from month2_databases.replication.read_policy import (
    CAUSAL,
    LEARNING,
    PRIMARY_ONLY,
    ReadPolicy,
    ReadReason,
)
from month2_databases.replication.routing_events import ReadRouted, ServerRole
from scalelab.clients.postgres import CommitPosition
from scalelab.errors import InvalidInput, Overloaded, Unavailable

if TYPE_CHECKING:
    from month2_databases.replication.cluster import Cluster

Row = tuple[Any, ...]
Answer = TypeVar("Answer")


class WriteInReadSession(InvalidInput):
    """A statement that writes was given to a session that only reads. Nothing was changed."""

    code = "write_in_read_session"


class Reading:
    """Fetches rows on a connection that refuses writes."""

    __slots__ = ("_conn", "_name")

    def __init__(self, conn: AsyncConnection, name: str) -> None:
        self._conn = conn
        self._name = name

    async def fetch_one(self, query: LiteralString, values: Sequence[object] = ()) -> Row | None:
        """The first row, None if there is none. Raises WriteInReadSession for a write."""
        try:
            cursor = await self._conn.execute(query, values)
            return await cursor.fetchone()
        except errors.ReadOnlySqlTransaction as error:
            raise self._refused(error) from error

    async def fetch_all(self, query: LiteralString, values: Sequence[object] = ()) -> list[Row]:
        """All rows. Raises WriteInReadSession for a write."""
        try:
            cursor = await self._conn.execute(query, values)
            return await cursor.fetchall()
        except errors.ReadOnlySqlTransaction as error:
            raise self._refused(error) from error

    def _refused(self, error: psycopg.Error) -> WriteInReadSession:
        said = error.diag.message_primary or "it writes"
        return WriteInReadSession(f"a read session on {self._name}: {said}", field="query")


class Writing(Reading):
    """Fetches and changes rows in one transaction on the primary."""

    __slots__ = ()

    async def execute(self, query: LiteralString, values: Sequence[object] = ()) -> int:
        """Run a statement; the number of rows it changed."""
        cursor = await self._conn.execute(query, values)
        return cursor.rowcount


class ClientSession:
    """One client: what it wrote and saw, merged from its own work and from messages.

    Not for two clients at once. `header` is what the client, or whoever gets a message from it,
    brings back; `absorb` takes such a header in.
    """

    def __init__(
        self,
        cluster: Cluster,
        keys: Sequence[bytes],
        tell: Callable[[ReadRouted], None] | None,
        *,
        read_timeout_s: float,
    ) -> None:
        self._cluster = cluster
        self._keys = keys
        self._tell = tell
        self._read_timeout_s = read_timeout_s
        self.past = Past()

    @property
    def header(self) -> str:
        """Signed text that carries this session's past; "" before it has one."""
        return header_of([self.past], self._keys[0])

    def absorb(self, text: str, *, is_own: bool = False) -> None:
        """Take in the header of a message; whatever it holds is no error.

        What does not verify makes this session read the primary (module read_policy, I2). is_own:
        it comes back from an earlier answer of this session.
        """
        self.past = after_message(
            self.past, text, cluster=self._cluster.name, keys=self._keys, is_own=is_own
        )

    def read(self, policy: ReadPolicy = CAUSAL) -> ReadSession:
        """A block that reads: `async with session.read(policy) as reading`."""
        return ReadSession(self, self._cluster, policy, self._tell, self._read_timeout_s)

    def write(self) -> WriteSession:
        """One transaction on the primary: `async with session.write() as writing`."""
        return WriteSession(self, self._cluster)

    async def run(self, policy: ReadPolicy, work: Callable[[Reading], Awaitable[Answer]]) -> Answer:
        """What `work` reads; if its replica fails meanwhile, once more on the primary.

        A block cannot be repeated, a function can: `work` must have no other effects.
        """
        session = self.read(policy)
        try:
            async with session as reading:
                return await work(reading)
        except Unavailable:
            if session.role is ServerRole.PRIMARY:
                raise
        async with self.read(PRIMARY_ONLY) as reading:
            return await work(reading)

    def wrote(self, token: ConsistencyToken) -> None:
        """A commit is acknowledged; a transaction has also seen whatever it could see."""
        self.past = after_read(after_write(self.past, token), token)

    def saw(self, token: ConsistencyToken) -> None:
        """Something was read that is no newer than `token`."""
        self.past = after_read(self.past, token)


class ReadSession:
    """A block that reads on a replica that may answer, else on the primary.

    server, role and reason say who answered and why; set when the block begins.
    """

    __slots__ = (
        "_block",
        "_client",
        "_cluster",
        "_conn",
        "_policy",
        "_tell",
        "_timeout_s",
        "reason",
        "role",
        "server",
    )

    def __init__(
        self,
        client: ClientSession,
        cluster: Cluster,
        policy: ReadPolicy,
        tell: Callable[[ReadRouted], None] | None,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._policy = policy
        self._tell = tell
        self._timeout_s = timeout_s
        self._block: AbstractAsyncContextManager[AsyncConnection] | None = None
        self._conn: AsyncConnection | None = None
        self.server = cluster.name
        self.role = ServerRole.PRIMARY
        self.reason = ReadReason.NO_REPLICA

    async def __aenter__(self) -> Reading:
        conn = await self._enter_replica()
        if conn is None:
            self._block = self._cluster.primary_reader.reading(self._timeout_s)
            conn = await self._block.__aenter__()
        self._conn = conn
        if self._tell is not None:
            self._tell(ReadRouted(self._cluster.name, self.server, self.role, self.reason))
        return Reading(conn, self.server)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, conn = self._block, self._conn
        if block is None or conn is None:
            return
        if raised is not None or self._policy.guarantee not in LEARNING:
            await block.__aexit__(kind, raised, trace)
            return
        try:
            position, _ = await shown(conn)
        except BaseException as error:
            await block.__aexit__(type(error), error, error.__traceback__)
            raise
        await block.__aexit__(None, None, None)
        self._client.saw(ConsistencyToken(self._cluster.name, position.timeline, position.lsn))

    async def _enter_replica(self) -> AsyncConnection | None:
        """A connection to the first candidate that answers and has what is asked of it."""
        cluster = self._cluster
        choice = cluster.choose(self._policy, self._client.past)
        self.reason = choice.reason
        floor = choice.floor
        for index in choice.candidates:
            server = cluster.replicas[index]
            block = server.reading(self._timeout_s)
            try:
                conn = await block.__aenter__()
                fit = floor is None or cluster.believes(conn, server.name, floor)
                if fit is None and floor is not None:
                    fit = await self._asked(block, conn, floor)
            except (Unavailable, Overloaded):
                self.reason = ReadReason.NO_REPLICA
                continue  # it died since it was last asked, or all its connections are taken
            if fit:
                self._block = block
                self.server, self.role, self.reason = server.name, ServerRole.REPLICA, choice.reason
                return conn
            self.reason = ReadReason.BEHIND
            await block.__aexit__(None, None, None)
        return None

    async def _asked(
        self,
        block: AbstractAsyncContextManager[AsyncConnection],
        conn: AsyncConnection,
        floor: ConsistencyToken,
    ) -> bool:
        try:
            return await self._cluster.confirms(conn, floor)
        except BaseException as error:
            await block.__aexit__(type(error), error, error.__traceback__)
            raise


class WriteSession:
    """One transaction on the primary; commits when the block ends, rolls back if it raises.

    token: where it stands in the log, once it has committed. The client's past has it then.
    """

    def __init__(self, client: ClientSession, cluster: Cluster) -> None:
        self._client = client
        self._cluster = cluster
        self._position = CommitPosition()
        self._work = cluster.primary.transaction(position=self._position)
        self.token: ConsistencyToken | None = None

    async def __aenter__(self) -> Writing:
        return Writing(await self._work.__aenter__(), self._cluster.name)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.__aexit__(kind, raised, trace)
        self.token = self._cluster.token_of(self._position)
        if self.token is not None:
            self._client.wrote(self.token)
