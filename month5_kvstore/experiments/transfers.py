"""Three ways to move money between two keys of two groups: two writes, two-phase commit, a saga."""

from __future__ import annotations

from random import Random

from month5_kvstore.client import KvClient
from month5_kvstore.transactions import (
    Checkpoint,
    KvTransactions,
    Posting,
    PostingSagas,
    Work,
)
from scalelab.clock import SystemClock


async def two_writes(
    client: KvClient, source: bytes, target: bytes, amount: int, checkpoint: Checkpoint
) -> None:
    """One after the other, and nothing that would know about a half: `taken` lies between."""
    await _add(client, source, -amount)
    await checkpoint("taken")
    await _add(client, target, amount)


async def two_phase(
    transactions: KvTransactions, source: bytes, target: bytes, amount: int
) -> None:
    """Both or none. What would leave less than nothing anywhere is not done."""

    async def act(work: Work) -> None:
        found = await work.get_all([source, target])
        after = int(found[source] or b"0") - amount, int(found[target] or b"0") + amount
        if min(after) >= 0:
            work.put(source, b"%d" % after[0])
            work.put(target, b"%d" % after[1])

    await transactions.run(act)


async def saga(
    client: KvClient, source: bytes, target: bytes, amount: int, checkpoint: Checkpoint | None
) -> str:
    """Taken first, given then; returns how it ended."""
    sagas = sagas_over(client, checkpoint)
    return await sagas.go_on(await sagas.begin([Posting(source, -amount), Posting(target, amount)]))


def sagas_over(client: KvClient, checkpoint: Checkpoint | None = None) -> PostingSagas:
    """With transactions that are never stopped."""
    transactions = KvTransactions(client, clock=SystemClock(), random=Random())
    return PostingSagas(client, transactions, SystemClock(), checkpoint=checkpoint)


async def _add(client: KvClient, key: bytes, amount: int) -> None:
    current = await client.get(key)
    await client.put(key, b"%d" % (int(current.value if current else b"0") + amount))
