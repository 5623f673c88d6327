"""Month 3's order code on month 2's shards: sessions and secrets that both processes use."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from month2_databases.sharding import ReadSession as RoutedRead
from month2_databases.sharding import ShardRouter
from month2_databases.sharding import WriteSession as RoutedWrite
from month3_messaging.orders import ReadSession, Sessions, WriteSession
from scalelab.errors import CorruptData


def sessions_of(router: ShardRouter) -> Sessions:
    """The four openers on a router; a write session's token is there after its block."""

    @asynccontextmanager
    async def write(routed: RoutedWrite) -> AsyncGenerator[WriteSession, None]:
        async with routed as conn:
            session = WriteSession(conn, routed.shard)
            yield session
        session.token = routed.token

    @asynccontextmanager
    async def read(routed: RoutedRead) -> AsyncGenerator[ReadSession, None]:
        async with routed as conn:
            yield ReadSession(conn, routed.shard, routed.role.value)

    return Sessions(
        for_order=lambda order_id: write(router.session_for(order_id)),
        for_user=lambda user_id: write(router.session_for_user(user_id)),
        read_order=lambda order_id, token: read(
            router.read_session(order_id=order_id, token=token)
        ),
        read_user=lambda user_id, token: read(router.read_session(user_id=user_id, token=token)),
    )


def read_token_keys(file: Path) -> tuple[bytes, ...]:
    """The secrets that sign consistency tokens: one per line, the first signs, all verify.

    Raises CorruptData if the file has none.
    """
    keys = tuple(line.strip().encode() for line in file.read_text().splitlines() if line.strip())
    if not keys:
        raise CorruptData(f"{file} holds no secret for consistency tokens")
    return keys
