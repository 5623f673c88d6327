"""The client on a whole ring: levels, errors with a meaning, threads that end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from month2_databases.consistency import Level, Ring, RingSettings, open_ring
from month2_databases.experiments.ring_bed import RingBed
from scalelab.errors import Conflict, InvalidInput, Unavailable
from scalelab.lab.servers.ports import Ports

pytestmark = pytest.mark.timeout(300)  # whoever comes first starts the ring

INSERT = "INSERT INTO register (key, value) VALUES (?, ?)"
SELECT = "SELECT value FROM register WHERE key = ?"


@pytest.mark.parametrize("level", list(Level))
async def test_every_level_is_served_by_a_whole_ring(
    ring: Ring, fresh_key: str, level: Level
) -> None:
    """What is written at a level is read at ALL."""
    await ring.write(INSERT, (fresh_key, "here"), level=level)
    assert await ring.read(SELECT, (fresh_key,), level=Level.ALL) == [{"value": "here"}]


async def test_every_node_coordinates(ring: Ring, fresh_key: str) -> None:
    """A write through one node is read through each at QUORUM."""
    await ring.write(INSERT, (fresh_key, "here"), via=ring.addresses[0])
    for node in ring.addresses:
        assert await ring.read(SELECT, (fresh_key,), via=node) == [{"value": "here"}]


async def test_many_requests_at_once_are_all_answered(ring: Ring, fresh_key: str) -> None:
    """More than the bound on what is in flight."""
    keys = [f"{fresh_key}-{number}" for number in range(600)]
    await asyncio.gather(*(ring.write(INSERT, (one, one)) for one in keys))
    rows = await asyncio.gather(*(ring.read(SELECT, (one,)) for one in keys))
    assert [row[0]["value"] for row in rows] == keys


@pytest.mark.parametrize(
    "query", ["SELEKT 1", "SELECT value FROM nowhere", "SELECT key FROM register WHERE value = ?"]
)
async def test_a_query_that_the_ring_does_not_take_is_the_askers_mistake(
    ring: Ring, query: str
) -> None:
    """Bad grammar, an unknown table, a question that the table is not made for."""
    with pytest.raises(InvalidInput) as caught:
        await ring.read(query)
    assert caught.value.stable_code == "invalid_query"


async def test_a_table_that_is_there_is_not_made_again(ring: Ring) -> None:
    """The second definition is a conflict."""
    with pytest.raises(Conflict):
        await ring.define("CREATE TABLE register (key text PRIMARY KEY)")


async def test_a_node_that_is_no_part_of_the_ring_is_unavailable(ring: Ring) -> None:
    """Nothing is sent elsewhere instead."""
    with pytest.raises(Unavailable):
        await ring.read(SELECT, ("x",), via="127.0.0.9")


async def test_where_no_ring_is_opening_says_unavailable(ring_bed: RingBed) -> None:
    """And leaves no thread behind."""
    ports = Ports(private=True)
    nowhere = RingSettings(("127.0.0.1",), ports.port("nowhere", 9042), connect_timeout_s=2.0)
    with pytest.raises(Unavailable):
        async with open_ring(nowhere):
            pytest.fail("it opened")
    ports.release()


async def test_a_cancelled_caller_leaves_the_client_usable(ring: Ring, fresh_key: str) -> None:
    """Its answer comes to nobody; the next request is answered."""
    tasks = [asyncio.ensure_future(ring.write(INSERT, (fresh_key, "x"))) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await ring.read("SELECT key FROM register WHERE key = ?", (f"{fresh_key}-none",)) == []


async def test_a_closed_client_has_no_threads_left(ring_bed: RingBed) -> None:
    """All but the driver's one event loop, which all clients of a process share."""

    def of_the_driver() -> set[threading.Thread]:
        return {
            thread
            for thread in threading.enumerate()
            if "cassandra" in repr(getattr(thread, "_target", "")).lower()
            or type(thread).__module__.startswith("cassandra")
        }

    async with open_ring(ring_bed.settings("tests")) as client:
        await client.read(SELECT, ("x",))
        during = of_the_driver()
    assert during
    assert {thread for thread in of_the_driver() if "event_loop" not in thread.name} == set()
