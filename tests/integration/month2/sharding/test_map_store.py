"""The stored map on a real server: one version after the other, watched and hot-swapped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest

from month2_databases.sharding import MapStore, MapWatch, ShardMap, StoredMap, even
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, CorruptData, NotFound, Unavailable

Wait = Callable[..., Awaitable[None]]


@pytest.fixture
async def store(database_dsn: str) -> AsyncIterator[MapStore]:
    async with Database(PostgresSettings(database_dsn), name="maps") as database:
        made = MapStore(database)
        await made.create()
        yield made


async def test_every_version_is_kept_with_its_reason(store: MapStore) -> None:
    """G1: the history is the table."""
    first = await store.begin(even(["a", "b"]))
    second = await store.publish(first.moving([3], "b"), reason="make room")
    assert await store.current() == second
    assert await store.at(1) == first
    told = [(change.stored.version, change.reason) for change in await store.history()]
    assert told == [(2, "make room"), (1, "first map")]


async def test_of_two_changes_to_one_version_one_is_told(store: MapStore) -> None:
    """G2, side by side: exactly one of eight is placed."""
    first = await store.begin(even(["a", "b"]))
    offers = (store.publish(first.moving([slot], "b"), reason="race") for slot in range(8))
    ended = await asyncio.gather(*offers, return_exceptions=True)
    lost = [error for error in ended if isinstance(error, Conflict)]
    assert (len(lost), {error.stable_code for error in lost}) == (7, {"shard_map_raced"})
    assert (await store.current()) in ended


async def test_a_version_that_follows_nothing_is_refused(store: MapStore) -> None:
    """Neither a jump ahead nor one back changes the map."""
    first = await store.begin(even(["a", "b"]))
    for version in (1, 3, 17):
        with pytest.raises(Conflict) as caught:
            await store.publish(StoredMap(ShardMap(version, first.shard_map.owners)), reason="jump")
        assert caught.value.stable_code == "shard_map_raced"
    assert await store.current() == first


async def test_a_version_that_never_was_is_unknown(store: MapStore) -> None:
    """Before the first there is none at all."""
    with pytest.raises(NotFound) as caught:
        await store.current()
    assert caught.value.stable_code == "shard_map_missing"
    await store.begin(even(["a"]))
    with pytest.raises(NotFound) as caught:
        await store.at(2)
    assert caught.value.stable_code == "shard_map_unknown"


async def test_beginning_twice_keeps_the_map_in_force(store: MapStore) -> None:
    """A second start of the stack moves nothing."""
    first = await store.begin(even(["a", "b"]))
    moved = await store.publish(first.moving([3], "b"), reason="move")
    assert await store.begin(even(["c"])) == moved


@pytest.mark.parametrize(
    ("owners", "code"),
    [
        ('{"a": "0-100", "b": "100-255"}', "slot_owned_twice"),
        ('{"a": "0-100"}', "slot_without_owner"),
    ],
)
async def test_a_map_broken_by_hand_is_refused_and_named(
    store: MapStore, database_dsn: str, owners: str, code: str
) -> None:
    """G3."""
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as conn:
        await conn.execute(
            "INSERT INTO shard_map VALUES (1, jsonb_build_object('owners', %s::jsonb), 'by hand')",
            (owners,),
        )
    with pytest.raises(CorruptData) as caught:
        await store.current()
    assert caught.value.stable_code == code


async def test_a_watch_has_a_new_map_without_being_asked(store: MapStore, wait_until: Wait) -> None:
    """By notification: the poll is an hour away. Each version is told once, in order."""
    first = await store.begin(even(["a", "b"]))
    told: list[int] = []
    async with MapWatch(store, clock=SystemClock(), poll_s=3600.0) as watch:
        watch.subscribe(lambda stored: told.append(stored.version))
        await wait_until(lambda: watch.is_listening, what="the watch listens")
        second = await store.publish(first.moving([3], "b"), reason="move")
        await wait_until(lambda: watch.current == second, what="the watch has version 2")
        third = await store.publish(second.kept([3]), reason="kept")
        await wait_until(lambda: watch.current == third, what="the watch has version 3")
    assert told == [1, 2, 3]


async def test_a_watch_finds_a_map_that_nobody_told_it_of(
    store: MapStore, database_dsn: str, wait_until: Wait
) -> None:
    """By polling: the row comes without a notification."""
    await store.begin(even(["a", "b"]))
    async with MapWatch(store, clock=SystemClock(), poll_s=0.05) as watch:
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as conn:
            await conn.execute(
                "INSERT INTO shard_map SELECT 2, document, 'silently' FROM shard_map"
            )
        await wait_until(lambda: watch.current.version == 2, what="the watch has version 2")


async def test_a_refresh_is_newer_than_its_call(store: MapStore) -> None:
    """G2, for many that ask together while the map changes."""
    stored = await store.begin(even(["a", "b"]))
    async with MapWatch(store, clock=SystemClock(), poll_s=3600.0) as watch:
        for slot in range(5):
            stored = await store.publish(stored.moving([slot], "b"), reason="move")
            seen = await asyncio.gather(*(watch.refresh() for _ in range(10)))
            assert {one.version for one in seen} == {stored.version}


async def test_a_watch_goes_on_with_the_last_map_while_its_store_is_away(
    store: MapStore, database_dsn: str, wait_until: Wait
) -> None:
    """It says so, and has the newer map once the store is back."""
    first = await store.begin(even(["a", "b"]))
    async with MapWatch(store, clock=SystemClock(), poll_s=0.05) as watch:
        async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as conn:
            await conn.execute("ALTER TABLE shard_map RENAME TO elsewhere")
            await wait_until(lambda: watch.trouble is not None, what="the watch says its trouble")
            assert watch.current == first
            await conn.execute("ALTER TABLE elsewhere RENAME TO shard_map")
        second = await store.publish(first.moving([3], "b"), reason="move")
        await wait_until(lambda: watch.current == second, what="the watch has version 2")
        await wait_until(lambda: watch.trouble is None, what="the trouble is over")


async def test_a_watch_without_any_map_does_not_begin(store: MapStore) -> None:
    """Unless it is given one to begin on."""
    with pytest.raises(NotFound):
        await MapWatch(store, clock=SystemClock()).__aenter__()
    with pytest.raises(Unavailable):
        _ = MapWatch(store, clock=SystemClock()).current
    start = StoredMap(even(["a"]))
    async with MapWatch(store, clock=SystemClock(), initial=start) as watch:
        assert watch.current == start
