"""Connections of a move: to the two shards as their administrator, without the pools' limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from scalelab.clients.postgres_errors import Stage, lost, translate

_SAME_TEXT = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1"
"""Both shards show a value by the same text: rows are compared and applied as text."""


@dataclass(frozen=True, slots=True)
class ShardServer:
    """A shard's primary by name. dsn: of a role that owns the tables, may replicate, and may set
    session_replication_role."""

    name: str
    dsn: str


@asynccontextmanager
async def session(
    server: ShardServer, *, application_name: str = "reshard"
) -> AsyncGenerator[psycopg.AsyncConnection[Any], None]:
    """An autocommit connection; driver errors leave it in the words of the error tree.

    A connection that breaks is OutcomeUnknown: every step of a move may be repeated.
    """
    try:
        conn = await psycopg.AsyncConnection[Any].connect(
            server.dsn, autocommit=True, **connect_arguments(application_name)
        )
    except psycopg.Error as error:
        raise lost(Stage.READING, server.name, str(error)) from error
    try:
        yield conn
    except psycopg.Error as error:
        raise translate(error, stage=Stage.WRITING_ALONE, name=server.name) from error
    finally:
        await conn.close()


def connect_arguments(application_name: str) -> dict[str, Any]:
    """What every connection of a move is opened with."""
    return {
        "application_name": application_name,
        "connect_timeout": 5,
        "options": _SAME_TEXT,
        "keepalives_idle": 10,
    }
