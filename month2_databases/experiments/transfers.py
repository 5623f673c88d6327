"""Three ways to move money between two shards: two commits, two-phase commit, a saga.

A checkpoint is awaited after every step, so that whoever runs a transfer can look around there,
or die there. The saga is the smallest one: the amount leaves the source and stands in its outbox in
one commit, `relay` carries it to the target, where an inbox makes repeating harmless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from month2_databases.sharding import DecisionRegister, TwoPhase
from scalelab.clients.postgres import Database
from scalelab.clock import SystemClock
from scalelab.ids import uuid7

Checkpoint = Callable[[str], Awaitable[None]]

SCHEMA = """
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE outbox (id uuid PRIMARY KEY, peer int NOT NULL, amount bigint NOT NULL);
CREATE TABLE inbox (id uuid PRIMARY KEY);
"""

_TAKE = "UPDATE account SET balance = balance - %s WHERE id = %s"
_GIVE = "UPDATE account SET balance = balance + %s WHERE id = %s"


async def two_commits(
    source: Database, target: Database, account: int, amount: int, checkpoint: Checkpoint
) -> None:
    """One after the other, and nothing that would know about a half: step `taken` lies between."""
    async with source.transaction() as conn:
        await conn.execute(_TAKE, (amount, account))
    await checkpoint("taken")
    async with target.transaction() as conn:
        await conn.execute(_GIVE, (amount, account))


async def two_phase(
    source: Database,
    target: Database,
    register: Database,
    account: int,
    amount: int,
    checkpoint: Checkpoint,
) -> None:
    """Both or none: steps `prepared` and `decided`."""
    shards = {"source": source, "target": target}
    coordinator = TwoPhase(shards, DecisionRegister(register), SystemClock(), checkpoint=checkpoint)
    async with coordinator.transaction(["source", "target"]) as work:
        await work["source"].execute(_TAKE, (amount, account))
        await work["target"].execute(_GIVE, (amount, account))


async def saga(
    source: Database, target: Database, account: int, amount: int, checkpoint: Checkpoint
) -> None:
    """Accepted when it has left the source: step `taken`; then carried over."""
    await accept(source, account, amount)
    await checkpoint("taken")
    await relay(source, target)


async def accept(source: Database, account: int, amount: int) -> None:
    """The saga's first step: the amount leaves and is on its way, in one commit."""
    async with source.transaction() as conn:
        await conn.execute(_TAKE, (amount, account))
        await conn.execute(
            "INSERT INTO outbox VALUES (%s, %s, %s)", (uuid7(SystemClock().now()), account, amount)
        )


async def relay(source: Database, target: Database) -> int:
    """Carry everything over that is on its way; may run again after any crash. Returns how many."""
    async with source.autocommit(read_only=True) as conn:
        cursor = await conn.execute("SELECT id, peer, amount FROM outbox ORDER BY id")
        waiting: list[tuple[UUID, int, int]] = await cursor.fetchall()
    for order, peer, amount in waiting:
        async with target.transaction() as conn:
            cursor = await conn.execute(
                "INSERT INTO inbox VALUES (%s) ON CONFLICT DO NOTHING", (order,)
            )
            if cursor.rowcount:
                await conn.execute(_GIVE, (amount, peer))
        async with source.transaction() as conn:
            await conn.execute("DELETE FROM outbox WHERE id = %s", (order,))
    return len(waiting)
