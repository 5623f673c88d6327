"""The catalogue's way to PostgreSQL: SQLAlchemy sessions with deadlines, and one error mapping.

Every wait has an end: for a free connection, for the connect, for a statement, and for the whole
block around them, which also ends when the server is frozen and says nothing. Opening connects
to nothing; a server that is away is met by the first statement, as Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from scalelab.clients.postgres_errors import Stage, lost, translate
from scalelab.errors import InvalidInput, ScalelabError, Unavailable

NAME = "catalog"
"""How this database is called in errors and in pg_stat_activity."""


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """dsn: what libpq takes. pool_max: connections of this process. Times in seconds;
    block_timeout_s bounds a whole session, waiting for a connection included."""

    dsn: str
    pool_max: int = 8
    acquire_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    statement_timeout_s: float = 5.0
    block_timeout_s: float = 8.0


class Sessions:
    """Opens sessions on one database; an async context manager that owns their connections."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._engine = _engine(settings)

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncSession]:
        """A session for reads. Raises Unavailable when the database cannot answer in time."""
        with map_errors():
            async with asyncio.timeout(self._settings.block_timeout_s), self._session() as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncSession]:
        """A session in one transaction: committed at the block's end, rolled back by an error.

        Raises Unavailable while nothing can have been changed, OutcomeUnknown when the connection
        was lost or silent during COMMIT, Conflict `serialization_failure` when another write won.
        """
        with map_errors():
            async with asyncio.timeout(self._settings.block_timeout_s), self._session() as session:
                yield session
                with map_errors(Stage.COMMITTING):
                    async with asyncio.timeout(self._settings.statement_timeout_s):
                        await session.commit()

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    def _session(self) -> AsyncSession:
        return AsyncSession(self._engine, expire_on_commit=False)


def _engine(settings: DatabaseSettings) -> AsyncEngine:
    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            settings.dsn,
            connect_timeout=max(1, round(settings.connect_timeout_s)),
            application_name=NAME,
            options=f"-c statement_timeout={round(settings.statement_timeout_s * 1000)}",
        )

    return create_async_engine(
        "postgresql+psycopg://",
        async_creator=connect,
        pool_size=settings.pool_max,
        max_overflow=0,
        pool_timeout=settings.acquire_timeout_s,
        pool_use_lifo=True,
        pool_pre_ping=True,
    )


@contextmanager
def map_errors(stage: Stage = Stage.IN_TRANSACTION) -> Generator[None]:
    """Turn the errors of SQLAlchemy, psycopg and deadlines into ours, by how far the block came."""
    try:
        yield
    except exc.TimeoutError as error:
        raise Unavailable("every database connection is busy", code="pool_exhausted") from error
    except exc.DBAPIError as error:
        raise _translate(error.orig or error, stage) from error
    except (psycopg.Error, TimeoutError) as error:
        raise _translate(error, stage) from error


def _translate(error: BaseException, stage: Stage) -> ScalelabError:
    if isinstance(error, TimeoutError):
        return lost(stage, NAME, "it did not answer in time")
    if isinstance(error, psycopg.DataError):
        return InvalidInput("the database refused a value")
    if isinstance(error, Exception):
        return translate(error, stage=stage, name=NAME)
    return ScalelabError(f"{NAME}: {error!r}")
