"""Nodes that die, and nodes that stand still."""

from __future__ import annotations

import asyncio

import pytest

from month2_databases.consistency import Level, Ring
from month2_databases.experiments.ring_bed import RingBed, whole
from scalelab.errors import OutcomeUnknown

pytestmark = pytest.mark.timeout(400)

UPDATE = "UPDATE unhealed USING TIMESTAMP ? SET value = ? WHERE key = ?"
SELECT = "SELECT value FROM unhealed WHERE key = ?"


async def test_what_a_node_acknowledged_it_has_after_kill_9(
    ring_bed: RingBed, ring: Ring, fresh_key: str
) -> None:
    """Its commit log outlives it: read ONE through the node itself, with nothing to heal it."""
    keys = [f"{fresh_key}-{number}" for number in range(50)]
    await asyncio.gather(*(ring.write(UPDATE, (1, key, key), level=Level.ALL) for key in keys))
    victim = ring_bed.servers.nodes[1]
    await asyncio.to_thread(ring_bed.runtime.kill, victim.name)
    await asyncio.to_thread(ring_bed.runtime.restart, victim.name)
    await whole(ring)
    rows = [await ring.read(SELECT, (key,), level=Level.ONE, via=victim.address) for key in keys]
    assert [row[0]["value"] for row in rows] == keys


async def test_a_write_that_a_frozen_replica_does_not_answer_has_an_unknown_outcome(
    ring_bed: RingBed, ring: Ring, fresh_key: str
) -> None:
    """Not "unavailable": it stands on the others, and the same write again does no harm."""
    first, _, third = ring_bed.servers.nodes
    await ring.write(UPDATE, (1, "before", fresh_key), level=Level.ALL)
    await asyncio.to_thread(ring_bed.runtime.pause, third.name)
    try:
        with pytest.raises(OutcomeUnknown):
            await ring.write(UPDATE, (7, "x", fresh_key), level=Level.ALL, via=first.address)
        rows = await ring.read(SELECT, (fresh_key,), level=Level.ONE, via=first.address)
        assert rows == [{"value": "x"}]
    finally:
        await asyncio.to_thread(ring_bed.runtime.resume, third.name)
    await whole(ring)
    await ring.write(UPDATE, (7, "x", fresh_key), level=Level.ALL, via=first.address)
    rows = await ring.read(SELECT, (fresh_key,), level=Level.ONE, via=third.address)
    assert rows == [{"value": "x"}]
