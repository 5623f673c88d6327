"""Transactions over all keys of the store: the protocols of this room, driven over its client.

    transactions = KvTransactions(client, clock=SystemClock(), random=Random())

    async def transfer(work: Work) -> None:
        balance = int(await work.get(b"alice") or b"0")
        ...
        work.put(b"alice", b"%d" % (balance - 10))

    await transactions.run(transfer)

What is claimed and what is not stands in protocols.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from random import Random
from typing import TypeVar

from month5_kvstore.client import KvClient
from month5_kvstore.store import REFUSALS, KeyValue, Refused
from month5_kvstore.transactions import protocols
from month5_kvstore.transactions.calls import Call, Pause, Protocol, Reply
from month5_kvstore.transactions.intents import Intent, decode
from month5_kvstore.transactions.places import INTENTS, begun_s, check_key
from month5_kvstore.transactions.workspace import Workspace
from scalelab.clock import Clock
from scalelab.commit import Outcome
from scalelab.errors import Conflict, OutcomeUnknown, Retryable, ScalelabError
from scalelab.ids import uuid7

T = TypeVar("T")
_PAUSE_S = (0.02, 0.5)

Checkpoint = Callable[[str], Awaitable[None]]
"""Called with `prepare 1`, `prepare 2`, `record 1`, … when that call was answered."""


class TransactionConflict(Conflict):
    """Another transaction locks a key, or changed one that was read. Nothing was changed."""

    code = "transaction_conflict"


class Work:
    """One transaction. tx: its id. untold: groups that were committed but could not be told yet."""

    def __init__(self, tx: str, driver: KvTransactions) -> None:
        self.tx = tx
        self.untold: tuple[str, ...] = ()
        self._driver = driver
        self._workspace = Workspace()

    async def get(self, key: bytes) -> bytes | None:
        """The committed value, or this transaction's own; None where there is none.

        Waits for whoever locks it, and ends what was left behind. Raises Unavailable.
        """
        return (await self.get_all([key]))[key]

    async def get_all(self, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
        """As `get`, for several: those of one group at one moment."""
        wanted = tuple(keys)
        unknown = [key for key in wanted if not self._workspace.knows(key)]
        if unknown:
            self._workspace.saw(await self._driver.read(unknown))
        return {key: self._workspace.value(key) for key in wanted}

    def put(self, key: bytes, value: bytes) -> None:
        """Write when the transaction commits. Raises InvalidInput, TooLarge."""
        self._workspace.put(key, value)

    def delete(self, key: bytes) -> None:
        """Delete when it commits. Raises as `put`."""
        self._workspace.delete(key)

    @property
    def workspace(self) -> Workspace:
        """What it holds so far."""
        return self._workspace


class KvTransactions:
    """patience: pauses for an undecided transaction before it is aborted; the first is 20 ms, each
    is twice as long, up to 0.5 s. deadline_s: of one call. checkpoint: calls go one by one then.
    """

    def __init__(
        self,
        client: KvClient,
        *,
        clock: Clock,
        random: Random,
        patience: int = 8,
        deadline_s: float = 10.0,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._random = random
        self._patience = patience
        self._deadline_s = deadline_s
        self._checkpoint = checkpoint

    async def run(self, act: Callable[[Work], Awaitable[T]], *, attempts: int = 20) -> T:
        """Call `act` with new work and commit that; anew after a conflict, so often at most.

        An error of `act` changes nothing. Raises TransactionConflict (the last one), Unavailable;
        OutcomeUnknown if the decision could not be read: it stands or falls by `recover`.
        """
        for attempt in range(attempts):
            work = Work(uuid7(self._clock.now()).hex, self)
            result = await act(work)
            try:
                await self._commit(work)
            except TransactionConflict:
                if attempt + 1 == attempts:
                    raise
                await self.read(work.workspace.keys)  # whoever is in the way may be dead
                await self._pause(attempt)
            else:
                return result
        raise AssertionError("attempts are 1 or more")

    async def read(self, keys: Iterable[bytes]) -> dict[bytes, KeyValue | None]:
        """Committed values, those of one group at one moment; ends what is in the way."""
        wanted = tuple(keys)
        for key in wanted:
            check_key(key)
        return await self._drive(protocols.read(wanted, patience=self._patience))

    async def in_doubt(self) -> dict[str, tuple[Intent, ...]]:
        """Intents that lie on any group now, by transaction. Raises Unavailable."""
        found: dict[str, tuple[Intent, ...]] = {}
        for item in await self._client.find(INTENTS, deadline_s=self._deadline_s):
            intent = decode(item.value)
            found[intent.tx] = (*found.get(intent.tx, ()), intent)
        return found

    async def recover(self, *, older_than_s: float = 30.0) -> Mapping[str, Outcome]:
        """End transactions that are in doubt since so long, by the clocks of their clients.

        Returns how those ended that had not been ended by somebody else meanwhile.
        """
        now_s = self._clock.now().timestamp()
        done: dict[str, Outcome] = {}
        for tx, intents in sorted((await self.in_doubt()).items()):
            if now_s - begun_s(tx) < older_than_s:
                continue
            ended = await self._drive(protocols.settle(intents[0]))
            if ended.ended_here and ended.outcome is not None:
                done[tx] = ended.outcome
        return done

    async def _commit(self, work: Work) -> None:
        ended = await self._drive(protocols.commit(work.tx, work.workspace))
        work.untold = ended.untold
        if ended.outcome is None:
            raise OutcomeUnknown(f"the decision on {work.tx} could not be read")
        if ended.outcome is Outcome.COMMIT:
            return
        if ended.refusal is not None:
            code, message = ended.refusal.code, ended.refusal.message
            raise REFUSALS.get(code, ScalelabError)(message, code=code)
        raise TransactionConflict("another transaction was in the way; nothing was changed")

    async def _drive(self, protocol: Protocol[T]) -> T:
        replies: tuple[Reply, ...] | None = None
        while True:
            try:
                wish = protocol.send(replies) if replies is not None else next(protocol)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(wish, Pause):
                await self._pause(wish.number)
                replies = ()
            elif self._checkpoint is None:
                replies = tuple(await asyncio.gather(*map(self._ask, wish)))
            else:
                replies = await self._ask_in_turn(wish, self._checkpoint)

    async def _ask_in_turn(
        self, calls: tuple[Call, ...], checkpoint: Checkpoint
    ) -> tuple[Reply, ...]:
        replies: list[Reply] = []
        steps: Counter[str] = Counter()
        for call in calls:
            replies.append(await self._ask(call))
            steps[call.step] += 1
            await checkpoint(f"{call.step} {steps[call.step]}")
        return tuple(replies)

    async def _ask(self, call: Call) -> Reply:
        try:
            return await self._client.transact(call.command, deadline_s=self._deadline_s)
        except Retryable:
            return None
        except ScalelabError as error:
            return Refused(error.stable_code, error.message)

    async def _pause(self, number: int) -> None:
        longest_s = min(_PAUSE_S[1], _PAUSE_S[0] * 2 ** min(number, 10))
        await asyncio.sleep(longest_s * (0.5 + self._random.random() / 2))
