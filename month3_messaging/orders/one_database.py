"""All orders in one database: the simplest answer to "where do this order's rows live?"."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from month3_messaging.orders.sessions import ReadSession, Sessions, WriteSession
from scalelab.clients.postgres import CommitPosition, Database


def sessions_on(database: Database) -> Sessions:
    """Everything is read and written on `database`; a token names its commit and asks for nothing.

    Without replicas every read is a read of one's own writes, so a token that is brought along is
    not looked at.
    """

    @asynccontextmanager
    async def write(_whose: UUID | str) -> AsyncGenerator[WriteSession, None]:
        position = CommitPosition()
        async with database.transaction(position=position) as conn:
            session = WriteSession(conn, database.name)
            yield session
        session.token = f"{position.timeline}.{position.lsn}"

    @asynccontextmanager
    async def read(_whose: UUID | str, _token: str | None) -> AsyncGenerator[ReadSession, None]:
        async with database.autocommit(read_only=True) as conn:
            yield ReadSession(conn, database.name, "primary")

    return Sessions(write, write, read, read)
