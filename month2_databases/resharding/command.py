"""The commands of resharding: settings in, a plain document out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month2_databases.resharding.mover import Mover, MoveSettings
from month2_databases.resharding.pace import Pace
from month2_databases.resharding.servers import ShardServer, session
from month2_databases.resharding.steps import Move
from month2_databases.resharding.tables import EmptiedTable, MovedTable
from month2_databases.sharding import (
    MapStore,
    even,
    owned_slots,
    owned_twice,
    read_slots,
    set_up_shard,
    show_slots,
    to_document,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, NotFound


class MoverSettings(BaseSettings):
    """Environment variables RESHARD_….

    maps: DSN of the database that keeps the map and the journal. shards: JSON, {name: DSN of an
    administrator of its primary}. serving: shards that split the slots when there is no map yet,
    separated by commas; all of them if empty. tables: `name` or `name:column`, parents first,
    separated by commas. emptied: `name:done column`, tables that must be done with (see
    `EmptiedTable`), separated by commas. rows_per_s: the most to copy, 0 for no
    limit. lag_transactions, grace_s: see `MoveSettings`.
    """

    model_config = SettingsConfigDict(env_prefix="RESHARD_", frozen=True)

    maps: str
    shards: dict[str, str]
    serving: str = ""
    tables: str = "orders"
    emptied: str = ""
    rows_per_s: Annotated[float, Field(ge=0)] = 0.0
    lag_transactions: Annotated[int, Field(ge=1)] = 50
    grace_s: Annotated[float, Field(ge=0)] = 3.0

    @property
    def moved_tables(self) -> list[MovedTable]:
        """The tables to move."""
        named = [word.strip().partition(":") for word in self.tables.split(",") if word.strip()]
        if not named:
            raise InvalidInput("no table to move", field="RESHARD_TABLES")
        return [MovedTable(name, column or "slot") for name, _, column in named]

    @property
    def emptied_tables(self) -> list[EmptiedTable]:
        """The tables to be done with."""
        named = [word.strip().partition(":") for word in self.emptied.split(",") if word.strip()]
        if not all(done for _, _, done in named):
            raise InvalidInput("say `name:done column`", field="RESHARD_EMPTIED")
        return [EmptiedTable(name, done) for name, _, done in named]

    @property
    def servers(self) -> dict[str, ShardServer]:
        """The shards' primaries."""
        return {name: ShardServer(name, dsn) for name, dsn in self.shards.items()}


async def init(settings: MoverSettings) -> dict[str, Any]:
    """The map's table, the guard on every shard and table, the first map. Repeatable."""
    async with _store(settings) as store:
        await store.create()
        names = [name for name in settings.serving.split(",") if name] or list(settings.shards)
        stored = await store.begin(even(names))
        for server in settings.servers.values():
            async with session(server) as conn, conn.transaction():
                tables = {table.name: table.slot for table in settings.moved_tables}
                await set_up_shard(conn, server.name, tables, stored)
    return await status(settings)


async def status(settings: MoverSettings) -> dict[str, Any]:
    """The map, its moves, and whether the shards agree with it."""
    async with _store(settings) as store:
        stored = await store.current()
        mover = _mover(settings, store)
        await mover.journal.create()
        moves = [_shown(one) for one in await mover.journal.all()]
    claims: dict[str, list[int]] = {}
    for server in settings.servers.values():
        async with session(server) as conn:
            claims[server.name] = list(await owned_slots(conn))
    return {
        "version": stored.version,
        **to_document(stored),
        "claimed": {name: show_slots(slots) for name, slots in claims.items()},
        "owned_twice": {str(slot): list(names) for slot, names in owned_twice(claims).items()},
        "history": moves,
    }


async def move(settings: MoverSettings, slots: str, target: str) -> dict[str, Any]:
    """Plan a move under a fresh name and carry it out."""
    name = f"move_{secrets.token_hex(4)}"
    async with _store(settings) as store:
        mover = _mover(settings, store)
        await mover.plan(name, read_slots(slots), target)
        return await _carried(mover, name)


async def resume(settings: MoverSettings, name: str) -> dict[str, Any]:
    """Carry a move on from where its last process left it."""
    async with _store(settings) as store:
        return await _carried(_mover(settings, store), name)


async def abort(settings: MoverSettings, name: str) -> dict[str, Any]:
    """Take a move back; refused once the target has the slots."""
    async with _store(settings) as store:
        return _shown(await _mover(settings, store).abort(name))


async def _carried(mover: Mover, name: str) -> dict[str, Any]:
    ended = await mover.run(name)
    report = mover.report
    return {
        **_shown(ended),
        "copied_rows": report.copied_rows,
        "applied_changes": report.applied,
        "removed_rows": report.removed_rows,
        "unwritable_s": report.unwritable_s,
        "seconds": report.seconds,
    }


@asynccontextmanager
async def _store(settings: MoverSettings) -> AsyncGenerator[MapStore, None]:
    async with Database(PostgresSettings(settings.maps), name="shard map") as database:
        yield MapStore(database)


def _mover(settings: MoverSettings, store: MapStore) -> Mover:
    if not settings.shards:
        raise NotFound("no shards are named", code="shard_unknown")
    return Mover(
        store,
        settings.servers,
        settings.moved_tables,
        clock=SystemClock(),
        emptied=settings.emptied_tables,
        settings=MoveSettings(
            pace=Pace(settings.rows_per_s or None),
            lag_transactions=settings.lag_transactions,
            grace_s=settings.grace_s,
        ),
    )


def _shown(move: Move) -> dict[str, Any]:
    return {
        "name": move.name,
        "slots": show_slots(move.slots),
        "source": move.source,
        "target": move.target,
        "step": move.step.value,
        "reason": move.reason,
        "rows": move.rows,
    }
