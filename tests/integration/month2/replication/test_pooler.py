"""A pooler in transaction mode: many clients on few connections, and what a session loses there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import AsyncConnection

from month2_databases.replication import (
    READ_YOUR_WRITES,
    ReadReason,
    ServerRole,
    WriteInReadSession,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.servers import PgBouncer

SERVER_CONNECTIONS = 2


@pytest.fixture(scope="session")
def pooler(notes: Any) -> PgBouncer:
    """A pooler in front of replica 1 with two server connections."""
    server = notes.replicated.cluster.replica(1)
    made = PgBouncer(server, ["notes"], pool_size=SERVER_CONNECTIONS)
    notes.runtime.start(made)
    return made


@pytest.fixture
async def clients(pooler: PgBouncer) -> AsyncIterator[list[AsyncConnection]]:
    """Three client connections as any program would open them."""
    opened = [
        await AsyncConnection.connect(pooler.dsn("notes", "notes"), autocommit=True)
        for _ in range(3)
    ]
    yield opened
    for one in opened:
        await one.close()


async def one_of(conn: AsyncConnection, query: LiteralString) -> object:
    cursor = await conn.execute(query, prepare=False)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def backend(conn: AsyncConnection) -> object:
    return await one_of(conn, "SELECT pg_backend_pid()")


async def test_twenty_clients_share_two_server_connections(pooler: PgBouncer) -> None:
    """All are served, and the server never sees a third process for them."""
    database = Database(
        PostgresSettings(pooler.dsn("notes", "notes"), pool_max=20, through_pooler=True),
        name="many",
    )
    async with database:

        async def ask() -> object:
            async with database.transaction(read_only=True) as conn:
                return await backend(conn)

        pids = await asyncio.gather(*(ask() for _ in range(20)))
    assert 1 <= len(set(pids)) <= SERVER_CONNECTIONS


@asynccontextmanager
async def all_but_one_taken(
    clients: list[AsyncConnection], pid: object
) -> AsyncGenerator[AsyncConnection]:
    """Clients 2 and 3 hold both server connections; whoever has the one that is not `pid` lets go.

    Gives the client that holds `pid`: what client 1 asks now goes to the other connection.
    """
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(clients[1].transaction())
        await second.enter_async_context(clients[2].transaction())
        keeps, leaves = (clients[1], second), (clients[2], first)
        holder, other = keeps if await backend(clients[1]) == pid else leaves
        assert await backend(holder) == pid
        await other.aclose()
        yield holder


async def test_a_setting_of_the_session_is_lost_to_its_client_and_found_by_another(
    clients: list[AsyncConnection],
) -> None:
    """SET belongs to a server connection, and that one is lent to whoever comes next."""
    one = clients[0]
    async with one.transaction():
        await one.execute("SET work_mem = '7MB'")
        pid = await backend(one)
    async with all_but_one_taken(clients, pid) as holder:
        assert await one_of(holder, "SHOW work_mem") == "7MB"
        assert await one_of(one, "SHOW work_mem") != "7MB"


async def test_a_prepared_statement_is_unknown_on_the_next_connection(
    clients: list[AsyncConnection],
) -> None:
    """The client prepared it once; where it comes next nobody has heard of it."""
    one = clients[0]
    query = "SELECT k FROM note WHERE v = %s"
    async with one.transaction():
        await one.execute(query, (1,), prepare=True)
        pid = await backend(one)
    async with all_but_one_taken(clients, pid):
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            await one.execute(query, (1,))


async def test_an_advisory_lock_of_the_session_is_held_by_nobody_in_particular(
    clients: list[AsyncConnection],
) -> None:
    """Its client cannot release it, and another one that never took it has it already."""
    one = clients[0]
    async with one.transaction():
        await one.execute("SELECT pg_advisory_lock(7)")
        pid = await backend(one)
    async with all_but_one_taken(clients, pid) as holder:
        assert await one_of(one, "SELECT pg_try_advisory_lock(7)") is False
        assert await one_of(holder, "SELECT pg_try_advisory_lock(7)") is True
        assert await one_of(holder, "SELECT pg_advisory_unlock_all()") == ""


async def test_a_pool_that_knows_of_the_pooler_prepares_nothing(pooler: PgBouncer) -> None:
    """The same query over changing server connections, a hundred times."""
    settings = PostgresSettings(pooler.dsn("notes", "notes"), pool_max=4, through_pooler=True)
    async with Database(settings, name="knows") as database:

        async def ask() -> object:
            async with database.transaction(read_only=True) as conn:
                await conn.execute("SELECT k FROM note WHERE v = %s", (1,))
                return await backend(conn)

        pids = [pid for _ in range(25) for pid in await asyncio.gather(*(ask() for _ in range(4)))]
    assert len(pids) == 100


async def test_the_router_reads_through_the_pooler_and_keeps_its_promises(
    notes: Any, pooler: PgBouncer, wait_until: Any
) -> None:
    """Own writes are found on the pooled replica once it has them, and it refuses writes."""
    first = notes.replicated.settings.replicas[0]
    pooled = replace(first, pooler_dsn=pooler.dsn("notes", "notes"))
    settings = replace(notes.replicated.settings, replicas=(pooled,))
    key = uuid.uuid4().hex
    async with notes.router(settings=settings) as router:
        session = router.session()
        async with session.write() as writing:
            await writing.execute("INSERT INTO note (k, v) VALUES (%s, 4)", (key,))

        async def on_the_replica() -> bool:
            read = session.read(READ_YOUR_WRITES)
            async with read as reading:
                assert await reading.fetch_one("SELECT v FROM note WHERE k = %s", (key,)) == (4,)
            return read.role is ServerRole.REPLICA and read.reason is ReadReason.CAUGHT_UP

        await wait_until(on_the_replica, what="the pooled replica answers")
        with pytest.raises(WriteInReadSession):
            async with session.read(READ_YOUR_WRITES) as reading:
                await reading.fetch_one("DELETE FROM note")
