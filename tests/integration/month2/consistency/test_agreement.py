"""Compare-and-set and timestamps on the real ring."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from month2_databases.consistency import Cell, Level, Ring, settle
from scalelab.errors import OutcomeUnknown

pytestmark = pytest.mark.timeout(300)  # whoever comes first starts the ring

CREATE = "INSERT INTO register (key, value) VALUES (?, ?) IF NOT EXISTS"


async def claim(ring: Ring, key: str, name: str) -> bool | None:
    """Whether `name` got the key; None where the ring could not say in time."""
    try:
        return (await ring.compare_and_set(CREATE, (key, name))).applied
    except OutcomeUnknown:
        return None


async def test_of_many_who_claim_a_key_at_once_exactly_one_gets_it(
    ring: Ring, fresh_key: str
) -> None:
    """Compare-and-set: whoever was told "yes" is who an agreed read names."""
    names = [f"claimant-{number}" for number in range(8)]
    told = await asyncio.gather(*(claim(ring, fresh_key, name) for name in names))
    rows = await ring.read_agreed("SELECT value FROM register WHERE key = ?", (fresh_key,))
    winners = [name for name, applied in zip(names, told, strict=True) if applied]
    assert len(winners) <= 1
    assert winners in ([rows[0]["value"]], [])
    assert winners or None in told


async def test_who_comes_second_is_told_what_stands(ring: Ring, fresh_key: str) -> None:
    """Not only that it failed: the row that stood in the way comes with the answer."""
    assert (await ring.compare_and_set(CREATE, (fresh_key, "first"))).applied
    swap = await ring.compare_and_set(CREATE, (fresh_key, "second"))
    assert (swap.applied, swap.found["value"]) == (False, "first")


CELLS = [Cell(b"a", 10), Cell(b"b", 10), Cell(None, 20), Cell(b"c", 20), Cell(b"d", 30)]


@pytest.mark.parametrize("size", [2, 3])
async def test_the_ring_keeps_what_the_merge_rule_keeps(
    ring: Ring, fresh_key: str, size: int
) -> None:
    """Every order of every few cells, ties and tombstones too: the pure rule foretells the ring."""
    chosen = list(permutations(CELLS, size))

    async def lived(number: int, cells: tuple[Cell, ...]) -> object:
        name = f"{fresh_key}-{number}"
        for cell in cells:
            value = None if cell.value is None else cell.value.decode()
            await ring.write(
                "UPDATE register USING TIMESTAMP ? SET value = ? WHERE key = ?",
                (cell.written_us, value, name),
                level=Level.ALL,
            )
        rows = await ring.read("SELECT value FROM register WHERE key = ?", (name,))
        return rows[0]["value"] if rows else None

    seen = await asyncio.gather(*(lived(number, cells) for number, cells in enumerate(chosen)))
    for cells, value in zip(chosen, seen, strict=True):
        kept = settle(cells)
        assert kept is not None
        assert value == (None if kept.value is None else kept.value.decode()), cells


async def test_a_clock_that_runs_ahead_makes_later_writes_vanish(
    ring: Ring, fresh_key: str
) -> None:
    """Acknowledged by every replica, and never read by anybody."""
    update = "UPDATE register USING TIMESTAMP ? SET value = ? WHERE key = ?"
    await ring.write(update, (2_000_000, "ahead", fresh_key), level=Level.ALL)
    await ring.write(update, (1_000_000, "later", fresh_key), level=Level.ALL)
    rows = await ring.read(
        "SELECT value FROM register WHERE key = ?", (fresh_key,), level=Level.ALL
    )
    assert rows == [{"value": "ahead"}]
