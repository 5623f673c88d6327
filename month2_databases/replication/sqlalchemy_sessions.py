"""The same sessions for SQLAlchemy: models and CRUD on replicas where nobody can tell.

`SqlReading` takes a Select and has no other door: an Insert, Update, Delete or text is a type
error, and at run time WriteInReadSession (code `write_in_read_session`) before it is sent. A Select
that writes all the same, through a function or a CTE, is refused by the server with that code.

Not part of the room's door: who needs it imports this file, so that the hot paths, which speak
psycopg, load no SQLAlchemy. Its pools are its own and count in the budget beside the router's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self, TypeVar, TypeVarTuple, cast

from psycopg import AsyncConnection, errors
from sqlalchemy import CompoundSelect, Row, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection as SqlConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from month2_databases.replication.cluster import ClusterSettings
from month2_databases.replication.consistency_token import ConsistencyToken
from month2_databases.replication.pool_budget import PoolSizes
from month2_databases.replication.primary_log import shown
from month2_databases.replication.read_policy import LEARNING, ReadPolicy
from month2_databases.replication.session_router import SessionRouter
from month2_databases.replication.sessions import ClientSession, WriteInReadSession
from scalelab.clients.postgres_errors import Stage, no_connection, translate
from scalelab.errors import ScalelabError, Unavailable

Value = TypeVar("Value")
Values = TypeVarTuple("Values")
Model = TypeVar("Model")


class SqlReading:
    """Runs Selects on a connection that refuses writes. server: who answers."""

    def __init__(self, session: AsyncSession, server: str) -> None:
        self._session = session
        self.server = server

    async def scalars(self, statement: Select[Value]) -> Sequence[Value]:
        """The first column of all rows."""
        with _read_errors(self.server):
            found = await self._session.scalars(_selecting(statement))
            return found.all()

    async def rows(self, statement: Select[*Values]) -> Sequence[Row[*Values]]:
        """All rows."""
        with _read_errors(self.server):
            found = await self._session.execute(_selecting(statement))
            return found.all()

    async def get(self, model: type[Model], key: object) -> Model | None:
        """The object with this primary key; it is detached when the block ends."""
        with _read_errors(self.server):
            return await self._session.get(model, key)


class SqlSessions:
    """Opens SQLAlchemy sessions by a router's policies; an async context manager of its engines.

    router: entered already. settings: the cluster the router was made for.
    """

    def __init__(
        self, router: SessionRouter, settings: ClusterSettings, *, pools: PoolSizes | None = None
    ) -> None:
        sizes = pools or PoolSizes()
        self._cluster = router.cluster
        name, dsn = settings.name, settings.primary
        self._primary = _Pool(name, dsn, sizes.primary_write, sizes.wait_s)
        self._reader = _Pool(name, dsn, sizes.primary_read, sizes.wait_s, read_only=True)
        self._replicas = [
            _Pool(one.name, one.dsn, sizes.replica, sizes.replica_wait_s, read_only=True)
            for one in settings.replicas
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for pool in (self._primary, self._reader, *self._replicas):
            await pool.engine.dispose()

    @asynccontextmanager
    async def read(
        self, client: ClientSession, policy: ReadPolicy
    ) -> AsyncGenerator[SqlReading, None]:
        """A block that reads for `client`, on a replica that may answer or on the primary."""
        async with AsyncExitStack() as stack:
            conn, server = await self._enter(stack, client, policy)
            session = AsyncSession(conn, autoflush=False, expire_on_commit=False)
            async with session:
                yield SqlReading(session, server)
            if policy.guarantee in LEARNING:
                with _read_errors(server):
                    position, _ = await shown(await _driver(conn))
                name = self._cluster.name
                client.saw(ConsistencyToken(name, position.timeline, position.lsn))

    @asynccontextmanager
    async def write(self, client: ClientSession) -> AsyncGenerator[AsyncSession, None]:
        """One transaction on the primary: COMMIT when the block ends, ROLLBACK if it raises.

        Raises OutcomeUnknown for a connection that broke in COMMIT, as the router does.
        """
        name = self._cluster.name
        async with AsyncExitStack() as stack:
            with _errors(name, Stage.IN_TRANSACTION):
                conn = await stack.enter_async_context(self._primary.lend())
                work = await conn.begin()
                async with AsyncSession(conn, expire_on_commit=False) as session:
                    yield session
                    await session.flush()
            with _errors(name, Stage.COMMITTING):
                await work.commit()
            with _errors(name, Stage.READING):
                position, _ = await shown(await _driver(conn))
        client.wrote(ConsistencyToken(name, position.timeline, position.lsn))

    async def _enter(
        self, stack: AsyncExitStack, client: ClientSession, policy: ReadPolicy
    ) -> tuple[SqlConnection, str]:
        choice = self._cluster.choose(policy, client.past)
        for index in choice.candidates:
            name = self._cluster.replicas[index].name
            try:
                async with AsyncExitStack() as trial:
                    with _read_errors(name):
                        conn = await trial.enter_async_context(self._replicas[index].lend())
                        if not await self._is_fit(conn, name, choice.floor):
                            continue
                    stack.push_async_exit(trial.pop_all())
                    return conn, name
            except Unavailable:
                continue
        with _read_errors(self._cluster.name):
            return await stack.enter_async_context(self._reader.lend()), self._cluster.name

    async def _is_fit(self, conn: SqlConnection, name: str, floor: ConsistencyToken | None) -> bool:
        if floor is None:
            return True
        driver = await _driver(conn)
        fit = self._cluster.believes(driver, name, floor)
        return await self._cluster.confirms(driver, floor) if fit is None else fit


class _Pool:
    """An engine and how many of its connections are lent, which its own count does not tell from
    those that the server has not let in yet."""

    def __init__(
        self, name: str, dsn: str, size: int, wait_s: float, *, read_only: bool = False
    ) -> None:
        self.engine = _engine(dsn, size, wait_s, read_only=read_only)
        self._name = name
        self._size = size
        self._lent = 0

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[SqlConnection, None]:
        """A connection; Unavailable `pool_exhausted` if all of them stay lent to others."""
        try:
            conn = await self.engine.connect()
        except NoConnection as error:
            raise no_connection(self._name, self._lent, self._size) from error
        self._lent += 1
        try:
            yield conn
        finally:
            try:
                await conn.close()
            finally:
                self._lent -= 1


def _engine(dsn: str, size: int, wait_s: float, *, read_only: bool = False) -> AsyncEngine:
    """Bounded: `size` connections and none over. Reads commit by themselves, statement by one."""
    options = "-c statement_timeout=5000 -c idle_in_transaction_session_timeout=15000"
    arguments: dict[str, Any] = {"connect_timeout": 2, "options": options}
    more: dict[str, Any] = {}
    if read_only:
        arguments["options"] += " -c default_transaction_read_only=on"
        more["isolation_level"] = "AUTOCOMMIT"
    return create_async_engine(
        dsn.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait_s,
        pool_pre_ping=not read_only,
        connect_args=arguments,
        **more,
    )


async def _driver(conn: SqlConnection) -> AsyncConnection:
    raw = await conn.get_raw_connection()
    return cast("AsyncConnection", raw.driver_connection)


def _selecting(statement: object) -> Any:
    if isinstance(statement, Select | CompoundSelect):
        return cast("Select[Any]", statement)
    what = type(statement).__name__
    raise WriteInReadSession(f"a read session takes a Select and got {what}", field="statement")


@contextmanager
def _read_errors(name: str) -> Generator[None, None, None]:
    with _errors(name, Stage.READING):
        yield


@contextmanager
def _errors(name: str, stage: Stage) -> Generator[None, None, None]:
    """SQLAlchemy's errors, and the driver's inside them, in the words of the one error tree."""
    try:
        yield
    except DBAPIError as error:
        cause = error.orig
        if stage is Stage.READING and isinstance(cause, errors.ReadOnlySqlTransaction):
            raise WriteInReadSession(
                f"a read session on {name}: {cause.diag.message_primary}", field="statement"
            ) from error
        if isinstance(cause, Exception):
            raise translate(cause, stage=stage, name=name) from error
        raise ScalelabError(f"{name}: {error}", code="database_error") from error
