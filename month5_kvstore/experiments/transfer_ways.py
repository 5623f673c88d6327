"""Five ways to move money between two places, each asked the same: move, look, who is locked, heal.

Places are two keys of two groups of the store, or the rows of two PostgreSQL servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import psycopg

from month5_kvstore.client import KvClient
from month5_kvstore.experiments import transfers
from month5_kvstore.experiments.postgres_transfers import ENDS, PostgresTransfers
from month5_kvstore.transactions import (
    Checkpoint,
    KvTransactions,
    PostingSagas,
    TransactionConflict,
    Work,
)
from scalelab.clock import SystemClock

OPENING = 1_000
_PATIENT_S = 30.0


class Way(Protocol):
    """name: as transfer_process.py knows it. told: what that process reads."""

    name: str
    told: dict[str, Any]

    async def move(self, amount: int, checkpoint: Checkpoint) -> None:
        """One transfer, looked at on its way."""
        ...

    async def missing(self) -> int:
        """Money that plain readers of both places miss now; negative: too much."""
        ...

    async def locked(self) -> int:
        """Places of the two whose balance nobody can change now."""
        ...

    async def recover(self) -> None:
        """What the way has for ends that were left open."""
        ...


@dataclass(slots=True)
class KeyWay:
    """On two keys of the store."""

    name: str
    told: dict[str, Any]
    client: KvClient
    source: bytes
    target: bytes

    async def move(self, amount: int, checkpoint: Checkpoint) -> None:
        """See Way."""
        match self.name:
            case "two_writes":
                await transfers.two_writes(
                    self.client, self.source, self.target, amount, checkpoint
                )
            case "two_phase":
                driver = self.transactions(checkpoint=checkpoint)
                await transfers.two_phase(driver, self.source, self.target, amount)
            case _:
                await transfers.saga(self.client, self.source, self.target, amount, checkpoint)

    async def missing(self) -> int:
        """See Way."""
        found = [await self.client.get(key) for key in (self.source, self.target)]
        return 2 * OPENING - sum(int(one.value) for one in found if one is not None)

    async def missing_in_transaction(self) -> int:
        """As a transaction of the store that only reads sees it."""

        async def look(work: Work) -> int:
            found = await work.get_all([self.source, self.target])
            return 2 * OPENING - sum(int(one or b"0") for one in found.values())

        return await self.transactions().run(look, attempts=1000)

    async def locked(self) -> int:
        """See Way: by trying to write, without ending what is in the way."""

        def writing(key: bytes) -> Any:
            async def act(work: Work) -> None:
                work.put(key, value)

            return act

        count = 0
        for key in (self.source, self.target):
            current = await self.client.get(key)
            value = current.value if current is not None else b"0"
            try:
                await self.transactions().run(writing(key), attempts=1)
            except TransactionConflict:
                count += 1
        return count

    async def recover(self) -> None:
        """See Way."""
        if self.name == "two_phase":
            await self.transactions().recover(older_than_s=0.0)
        elif self.name == "saga":
            await _finish(transfers.sagas_over(self.client))

    def transactions(self, **settings: Any) -> KvTransactions:
        """A driver of its own."""
        settings = {"deadline_s": _PATIENT_S, **settings}
        return KvTransactions(self.client, clock=SystemClock(), random=Random(), **settings)


@dataclass(slots=True)
class ServerWay:
    """On two PostgreSQL servers."""

    name: str
    told: dict[str, Any]
    client: KvClient
    dsns: Mapping[str, str]

    async def move(self, amount: int, checkpoint: Checkpoint) -> None:
        """See Way."""
        postgres = PostgresTransfers(self.dsns, self.client, checkpoint)
        if self.name == "saga_postgres":
            await postgres.saga(amount)
            return
        try:
            await postgres.two_phase(amount)
        except psycopg.errors.CheckViolation:
            return  # refused before anybody was asked to prepare

    async def missing(self) -> int:
        """See Way."""
        return 2 * OPENING - sum([await self._number(end, _BALANCE) for end in ENDS])

    async def locked(self) -> int:
        """See Way: rows of prepared transactions, each tried. A session that died with its client
        may still be about to go, and is not counted."""
        count = 0
        for end in ENDS:
            if await self._number(end, "SELECT count(*) FROM pg_prepared_xacts"):
                count += await self._is_refused(end)
        return count

    async def recover(self) -> None:
        """See Way."""
        postgres = PostgresTransfers(self.dsns, self.client)
        if self.name == "saga_postgres":
            await _finish(postgres.sagas())
        else:
            await postgres.recover()

    async def _number(self, end: str, question: str) -> int:
        async with await psycopg.AsyncConnection.connect(self.dsns[end]) as conn:
            row = await (await conn.execute(question.encode())).fetchone()
        return int(row[0]) if row else 0

    async def _is_refused(self, end: str) -> bool:
        async with await psycopg.AsyncConnection.connect(self.dsns[end]) as conn:
            try:
                await conn.execute("SELECT FROM account WHERE id = 1 FOR UPDATE NOWAIT")
            except psycopg.errors.LockNotAvailable:
                return True
        return False


_BALANCE = "SELECT balance FROM account WHERE id = 1"


async def _finish(sagas: PostingSagas) -> None:
    for saga in await sagas.unfinished():
        await sagas.go_on(saga)
