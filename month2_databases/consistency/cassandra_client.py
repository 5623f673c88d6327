"""Cassandra: the one file that talks to the driver. Queries with a level, errors with a meaning.

The driver runs threads of its own and blocks in some calls. Here blocking calls (connect, prepare,
close) go to a worker thread, and answers come back into the event loop by its thread-safe door; a
caller that is cancelled is simply no longer told. The driver retries nothing: a retry of a write
that may have happened is a decision, and it is the caller's.

What an error means, by what is known of the write:

    the coordinator refused, too few replicas alive       nothing was done    Unavailable
    no connection, nothing sent                           nothing was done    Unavailable
    replicas did not answer the coordinator in time       nobody can know     OutcomeUnknown
    a replica failed, the connection broke, no answer     nobody can know     OutcomeUnknown

A write whose outcome is unknown stands on some replicas perhaps, and nobody takes it back: reads
may show it, and repair spreads it. Writing the same again, with the same timestamp, is harmless.
A read changes nothing: all of its failures are Unavailable or DeadlineExceeded.
"""

# The driver ships no type information; this adapter gives it one.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import cassandra
from cassandra import ConsistencyLevel, ProtocolVersion
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    ResponseFuture,
    Session,
)
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantReconnectionPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
)
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage, SyntaxException
from cassandra.query import PreparedStatement, dict_factory

from month2_databases.consistency.quorum import Level
from scalelab.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)

Row = Mapping[str, Any]

_AGREEMENT_S = 60
"""How long nodes may take to agree on a schema: seconds on a busy machine."""

_LEVELS = {
    Level.ONE: ConsistencyLevel.ONE,
    Level.TWO: ConsistencyLevel.TWO,
    Level.QUORUM: ConsistencyLevel.QUORUM,
    Level.ALL: ConsistencyLevel.ALL,
}


@dataclass(frozen=True, slots=True)
class RingSettings:
    """How to reach a ring. addresses: of nodes, one is enough to find the others.

    timeout_s: the client's patience with one request; longer than the nodes' own, so that
    the coordinator's better-informed error comes first. in_flight:
    requests at once; the rest wait here, where waiting blocks nobody.
    """

    addresses: tuple[str, ...]
    port: int
    keyspace: str | None = None
    timeout_s: float = 10.0
    connect_timeout_s: float = 10.0
    in_flight: int = 256


@dataclass(frozen=True, slots=True)
class Swap:
    """Answer to a compare-and-set. found: the row that stood in the way; empty if applied."""

    applied: bool
    found: Row


class Ring:
    """A connected client, made by `open_ring`. Safe to share between the tasks of one loop."""

    def __init__(self, cluster: Cluster, session: Session, settings: RingSettings) -> None:
        self._cluster = cluster
        self._session = session
        self._settings = settings
        self._prepared: dict[str, PreparedStatement] = {}
        self._preparing = asyncio.Lock()
        self._room = asyncio.Semaphore(settings.in_flight)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The nodes named in the settings, in their order."""
        return self._settings.addresses

    async def define(self, *statements: str) -> None:
        """Change the schema, one statement after the other, and wait until the nodes agree.

        Raises Unavailable if they do not within a minute, Conflict if the thing exists already.
        """
        for statement in statements:
            patience_s = self._settings.timeout_s + _AGREEMENT_S
            asked = self._session.execute_async(statement, timeout=patience_s)
            await self._answer(asked, writes=True)
            if not asked.is_schema_agreed:
                raise Unavailable(
                    "the nodes do not agree on the schema", code="schema_disagreement"
                )

    async def read(
        self,
        query: str,
        parameters: Sequence[object] = (),
        *,
        level: Level = Level.QUORUM,
        via: str | None = None,
    ) -> list[Row]:
        """Rows by column name. via: address of the node to coordinate, any if None.

        Raises Unavailable (too few replicas, no such node now) or DeadlineExceeded.
        """
        return await self._run(query, parameters, level=level, via=via, writes=False)

    async def write(
        self,
        statement: str,
        parameters: Sequence[object] = (),
        *,
        level: Level = Level.QUORUM,
        via: str | None = None,
    ) -> None:
        """Insert, update, delete or batch; returns when `level` replicas have it.

        Raises Unavailable (nothing done) or OutcomeUnknown (repeat it with the same timestamp).
        """
        await self._run(statement, parameters, level=level, via=via, writes=True)

    async def compare_and_set(
        self,
        statement: str,
        parameters: Sequence[object] = (),
        *,
        level: Level = Level.QUORUM,
        via: str | None = None,
    ) -> Swap:
        """A statement with IF: applied to what all agree on, or not at all (Paxos, four rounds).

        `level` is of the commit. Raises as `write` does; after OutcomeUnknown read with
        `read_agreed`, which finishes what was begun.
        """
        rows = await self._run(statement, parameters, level=level, via=via, writes=True)
        row = dict(rows[0])
        applied = bool(row.pop("[applied]"))
        return Swap(applied, row)

    async def read_agreed(
        self, query: str, parameters: Sequence[object] = (), *, via: str | None = None
    ) -> list[Row]:
        """A linearizable read: it first finishes any compare-and-set that is under way."""
        return await self._run(
            query, parameters, number=ConsistencyLevel.SERIAL, via=via, writes=False
        )

    async def _run(
        self,
        query: str,
        parameters: Sequence[object],
        *,
        level: Level = Level.QUORUM,
        number: int | None = None,
        via: str | None,
        writes: bool,
    ) -> list[Row]:
        bound = (await self._prepare(query)).bind(tuple(parameters))
        bound.consistency_level = _LEVELS[level] if number is None else number
        async with self._room:
            return await self._answer(self._ask(bound, None, via=via), writes=writes)

    def _ask(self, query: object, parameters: object, *, via: str | None) -> ResponseFuture:
        host = None
        if via is not None:
            metadata = self._cluster.metadata
            host = metadata.get_host(via, self._settings.port) if metadata else None
            if host is None:
                raise Unavailable(f"the ring has no node {via}", code="ring_unavailable")
        return self._session.execute_async(
            query, parameters, timeout=self._settings.timeout_s, host=host
        )

    async def _answer(self, asked: ResponseFuture, *, writes: bool) -> list[Row]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Row]] = loop.create_future()

        def settle(rows: object, error: BaseException | None) -> None:
            if answer.done():  # its caller was cancelled meanwhile
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(list(rows) if isinstance(rows, list) else [])

        def tell(rows: object, error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, rows, error)

        def tell_rows(rows: object) -> None:
            tell(rows, None)

        def tell_error(error: BaseException) -> None:
            tell(None, error)

        asked.add_callbacks(tell_rows, tell_error)
        try:
            return await answer
        except Exception as error:
            raise translate(error, writes=writes) from error

    async def _prepare(self, query: str) -> PreparedStatement:
        known = self._prepared.get(query)
        if known is not None:
            return known
        async with self._preparing:
            if query not in self._prepared:
                self._prepared[query] = await self._prepare_somewhere(query)
            return self._prepared[query]

    async def _prepare_somewhere(self, query: str) -> PreparedStatement:
        """Ask node after node: the driver asks one, which may stand still."""
        left = len(self._settings.addresses)
        while True:
            left -= 1
            try:
                return await asyncio.to_thread(self._session.prepare, query)
            except Exception as error:
                meant = translate(error, writes=False)
                if left <= 0 or not isinstance(meant, Unavailable):
                    raise meant from error


@asynccontextmanager
async def open_ring(settings: RingSettings) -> AsyncGenerator[Ring]:
    """A client connected to every node that is up; closed with its threads at the end.

    Raises Unavailable if no node answers.
    """
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        retry_policy=FallthroughRetryPolicy(),
        row_factory=dict_factory,
        request_timeout=settings.timeout_s,
    )
    cluster = Cluster(
        list(settings.addresses),
        port=settings.port,
        protocol_version=ProtocolVersion.V5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.5, max_attempts=None),  # pyright: ignore[reportArgumentType] - for ever
        connect_timeout=settings.connect_timeout_s,  # pyright: ignore[reportArgumentType]
        control_connection_timeout=settings.connect_timeout_s,
        idle_heartbeat_interval=5,
        max_schema_agreement_wait=_AGREEMENT_S,
        executor_threads=4,
        prepare_on_all_hosts=False,  # a node that was not told asks for it
    )
    try:
        try:
            session = await asyncio.to_thread(
                cluster.connect, settings.keyspace, wait_for_all_pools=True
            )
        except Exception as error:
            raise translate(error, writes=False) from error
        yield Ring(cluster, session, settings)
    finally:
        # Also when cancelled: a client that is left open keeps its threads for ever.
        await asyncio.shield(asyncio.to_thread(cluster.shutdown))


def translate(error: Exception, *, writes: bool) -> ScalelabError:
    """The driver's `error` in the words of the one error tree. writes: of the request it met."""
    if isinstance(error, ScalelabError):
        return error
    if isinstance(error, NoHostAvailable):
        reasons = error.errors.values() if isinstance(error.errors, dict) else ()
        told = [one for one in reasons if isinstance(one, cassandra.Unavailable)]
        return translate(told[0], writes=writes) if told else _away(_words(error))
    return _refused(error) or _unanswered(error, writes=writes)


def _refused(error: Exception) -> ScalelabError | None:
    """Errors of a ring that did not do what it was asked; None for any other."""
    said = _words(error)
    if isinstance(error, cassandra.Unavailable):
        return Unavailable(f"too few replicas are alive: {said}", code="too_few_replicas")
    if isinstance(error, OverloadedErrorMessage):
        return Overloaded(f"the ring sheds load: {said}", code="ring_overloaded")
    if isinstance(error, cassandra.AlreadyExists):
        return Conflict(said, code="already_exists")
    if isinstance(error, (cassandra.RequestValidationException, SyntaxException)):
        return InvalidInput(f"the ring does not take this query: {said}", code="invalid_query")
    return None


def _unanswered(error: Exception, *, writes: bool) -> ScalelabError:
    """Errors after which the ring may have done what it was asked."""
    said = _words(error)
    # A plain ErrorMessage may say that a compare-and-set was neither agreed upon nor refused.
    by_replicas = isinstance(
        error, (cassandra.Timeout, cassandra.CoordinationFailure, ErrorMessage)
    )
    by_node = isinstance(error, (cassandra.OperationTimedOut, ConnectionException))
    if not by_replicas and not by_node:
        return ScalelabError(f"the ring: {said}", code="ring_error")
    if writes:
        who = "the replicas" if by_replicas else "the ring"
        return OutcomeUnknown(f"no answer from {who}, the write may stand: {said}")
    if by_replicas:
        return Unavailable(f"no answer from the replicas: {said}", code="replica_timeout")
    if isinstance(error, cassandra.OperationTimedOut):
        return DeadlineExceeded(f"no answer from the ring: {said}")
    return _away(said)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())


def _away(said: str) -> Unavailable:
    return Unavailable(f"no node of the ring could be asked: {said}", code="ring_unavailable")
