"""A value is unique over all shards, whoever crashes between the steps; and ids come in blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from month2_databases.sharding import (
    ID_BLOCK_SCHEMA,
    UNIQUE_VALUE_SCHEMA,
    FastSettings,
    HashPlacement,
    IdBlocks,
    Reservation,
    ShardedDatabase,
    UniqueValues,
    even,
    interleaved,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, InvalidInput

PLACEMENT = HashPlacement(even(["shard-0", "shard-1"]))
MAIL = "ann@example.com"


def owner_away_from(value: str, taken: str = "") -> str:
    """An owner on another shard than the one that decides about the value."""
    place = PLACEMENT.shard_of(f"mail:{value}")
    names = (f"owner-{n}" for n in range(100))
    return next(name for name in names if PLACEMENT.shard_of(name) != place and name != taken)


@pytest.fixture
async def db(cluster: Any) -> AsyncIterator[ShardedDatabase]:
    servers = {"shard-0": cluster.dsn(cluster.primary), "shard-1": cluster.dsn(cluster.lone)}
    for dsn in servers.values():
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(UNIQUE_VALUE_SCHEMA)
            conn.execute("TRUNCATE unique_value, unique_claim")
    settings = FastSettings(timeout_s=20.0, connect_timeout_s=20.0)
    async with ShardedDatabase(PLACEMENT, servers, settings=settings) as made:
        yield made


@pytest.fixture
def unique(db: ShardedDatabase) -> UniqueValues:
    return UniqueValues(db, SystemClock())


async def register(db: ShardedDatabase, unique: UniqueValues, owner: str) -> Reservation:
    """The three steps, as an application takes them."""
    reservation = await unique.reserve("mail", MAIL, owner_key=owner)
    async with db.transaction(key=owner) as conn:
        await unique.claim(conn, reservation)
    await unique.confirm(reservation)
    return reservation


async def test_of_many_owners_on_all_shards_one_gets_the_value(
    db: ShardedDatabase, unique: UniqueValues
) -> None:
    """G1: forty at once, and thirty-nine are told that it is taken."""
    tries = await asyncio.gather(
        *(register(db, unique, f"owner-{n}") for n in range(40)), return_exceptions=True
    )
    refused = [error for error in tries if isinstance(error, Conflict)]
    assert len(refused) == 39
    assert {error.stable_code for error in refused} == {"value_taken"}


async def test_an_owner_that_vanished_after_reserving_does_not_keep_the_value(
    db: ShardedDatabase, unique: UniqueValues
) -> None:
    """G2: freed by recovery, not before its time; then another one can have it."""
    await unique.reserve("mail", MAIL, owner_key=owner_away_from(MAIL))
    assert await unique.recover(older_than_s=3600.0) == {"confirmed": 0, "freed": 0, "released": 0}
    assert (await unique.recover(older_than_s=0.0))["freed"] == 1
    await register(db, unique, "somebody")


async def test_an_owner_that_vanished_before_confirming_keeps_the_value(
    db: ShardedDatabase, unique: UniqueValues
) -> None:
    """Its own transaction had committed; recovery confirms in its place."""
    owner = owner_away_from(MAIL)
    reservation = await unique.reserve("mail", MAIL, owner_key=owner)
    async with db.transaction(key=owner) as conn:
        await unique.claim(conn, reservation)
    assert (await unique.recover(older_than_s=0.0))["confirmed"] == 1
    with pytest.raises(Conflict):
        await unique.reserve("mail", MAIL, owner_key="somebody")


async def test_an_owner_that_comes_after_the_recovery_is_turned_away(
    db: ShardedDatabase, unique: UniqueValues
) -> None:
    """G1: it was only slow, the value went to another one, and its transaction fails."""
    late, other = owner_away_from(MAIL), "somebody"
    reservation = await unique.reserve("mail", MAIL, owner_key=late)
    await unique.recover(older_than_s=0.0)
    await register(db, unique, other)

    async def too_late() -> None:
        async with db.transaction(key=late) as conn:
            await unique.claim(conn, reservation)

    with pytest.raises(Conflict) as refusal:
        await too_late()
    assert refusal.value.stable_code == "reservation_lost"
    await unique.confirm(reservation)  # another one's by now: changes nothing
    owners = await db.scatter("SELECT owner_key FROM unique_claim WHERE state = 'held'")
    assert owners.rows == [(other,)]


async def test_a_recovery_waits_for_an_owner_who_is_about_to_commit(
    db: ShardedDatabase, unique: UniqueValues
) -> None:
    """The open transaction holds the claim's key; recovery learns how it ended, and confirms."""
    owner = owner_away_from(MAIL)
    reservation = await unique.reserve("mail", MAIL, owner_key=owner)
    async with db.transaction(key=owner) as conn:
        await unique.claim(conn, reservation)
        recovering = asyncio.create_task(unique.recover(older_than_s=0.0))
        await asyncio.sleep(0.2)  # it has begun or it has not: both must end alike
    assert (await recovering)["confirmed"] == 1


async def test_a_released_value_can_be_had_again(db: ShardedDatabase, unique: UniqueValues) -> None:
    """G3: in the owner's transaction, then by recovery."""
    owner = owner_away_from(MAIL)
    reservation = await register(db, unique, owner)
    async with db.transaction(key=owner) as conn:
        await unique.release(conn, reservation.token)
    with pytest.raises(Conflict):
        await register(db, unique, "somebody")
    assert (await unique.recover(older_than_s=0.0))["released"] == 1
    await register(db, unique, "somebody")


async def test_ids_of_all_processes_differ_and_cost_one_query_a_block(database_dsn: str) -> None:
    """Two allocators of blocks of ten, fifty ids each, twenty callers at once."""
    with psycopg.connect(database_dsn, autocommit=True) as conn:
        conn.execute(ID_BLOCK_SCHEMA)
    settings = PostgresSettings(database_dsn, acquire_timeout_s=20.0, connect_timeout_s=20.0)
    async with Database(settings, name="ids") as database:
        makers = [IdBlocks(database, "order", size=10) for _ in range(2)]
        ids = await asyncio.gather(*(makers[n % 2].take() for n in range(100)))
        assert len(set(ids)) == 100
        async with database.autocommit() as conn:
            row = await (await conn.execute("SELECT next_id FROM id_block")).fetchone()
        assert row == (101,)
        assert sorted(ids) == list(range(1, 101))


def test_interleaved_sequences_never_meet() -> None:
    """And an id says its shard."""
    starts = [interleaved(shard, 3) for shard in range(3)]
    ids = [{start + step * n for n in range(50)} for start, step in starts]
    assert len(set.union(*ids)) == 150
    assert all(number % 3 == shard for shard, some in enumerate(ids) for number in some)
    with pytest.raises(InvalidInput):
        interleaved(3, 3)
