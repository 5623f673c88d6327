"""Transactions over the groups of three real nodes; coordinators killed with -9 at every point."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from month5_kvstore.client import KvClient
from month5_kvstore.experiments import transfers
from month5_kvstore.experiments.transfer_process import POINTS, kill_at, victim
from month5_kvstore.node import group_of
from month5_kvstore.transactions import RESERVED, KvTransactions, TransactionConflict, Work
from scalelab.clock import SystemClock
from scalelab.commit import Outcome
from tests.integration.month5.node.cluster import Cluster, cluster_in

pytestmark = pytest.mark.timeout(240)
_numbers = itertools.count()


class Gone(Exception):
    """Raised where a coordinator ends."""


@dataclass(frozen=True)
class Bank:
    """Two accounts in two groups, of this test alone. Both hold 100 at first."""

    urls: dict[int, str]
    client: KvClient
    source: bytes
    target: bytes

    def transactions(self, **settings: Any) -> KvTransactions:
        settings = {"deadline_s": 60.0, **settings}
        return KvTransactions(self.client, clock=SystemClock(), random=Random(), **settings)

    async def balances(self) -> tuple[int, int]:
        """As plain reads see them: committed, without looking for locks."""
        found = [await self.client.get(key, deadline_s=60.0) for key in (self.source, self.target)]
        left, right = (int(one.value) for one in found if one is not None)
        return left, right

    async def in_doubt(self) -> dict[str, set[bytes]]:
        """Of this bank's keys, by transaction."""
        doubt = await self.transactions().in_doubt()
        keys = {tx: {one.key for one in intents} for tx, intents in doubt.items()}
        return {tx: one for tx, one in keys.items() if one & {self.source, self.target}}

    async def locked(self) -> set[bytes]:
        return {key for keys in (await self.in_doubt()).values() for key in keys}

    async def abandon(self, point: str) -> None:
        """A transfer of ten whose coordinator goes no further; its groups cannot tell why."""

        async def checkpoint(reached: str) -> None:
            if reached == point:
                raise Gone

        with pytest.raises(Gone):
            await transfers.two_phase(
                self.transactions(checkpoint=checkpoint), self.source, self.target, 10
            )

    async def die(self, way: str, point: str, amount: int = 10) -> None:
        told = {
            "urls": self.urls,
            "source": self.source.decode(),
            "target": self.target.decode(),
            "amount": amount,
        }
        async with victim(way, point) as process:
            await kill_at(process, point, told)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("kv")) as made:
        yield made


@pytest.fixture
async def bank(nodes: Cluster) -> AsyncIterator[Bank]:
    urls = nodes.stack.urls
    number = next(_numbers)
    source = f"source-{number}".encode()
    other = (f"target-{number}-{n}".encode() for n in itertools.count())
    target = next(key for key in other if group_of(key) != group_of(source))
    async with KvClient(urls, clock=SystemClock(), random=Random(), attempt_s=20.0) as client:
        for key in (source, target):
            await client.put(key, b"100", deadline_s=60.0)
        yield Bank(urls, client, source, target)


async def test_a_transfer_over_two_groups_commits_and_leaves_nothing_behind(bank: Bank) -> None:
    before = await bank.client.find(RESERVED)
    await transfers.two_phase(bank.transactions(), bank.source, bank.target, 10)
    assert await bank.balances() == (90, 110)
    assert await bank.client.find(RESERVED) == before


async def test_keys_are_found_page_by_page_in_order_over_all_groups(bank: Bank) -> None:
    """What a sweep reads by."""
    names = [bank.source + b"/%d" % number for number in range(5)]
    for name in names:
        await bank.client.put(name, b"\xff")
    found = await bank.client.find(bank.source + b"/", limit=2)
    assert [(one.key, one.value) for one in found] == [(name, b"\xff") for name in names]


async def test_an_error_in_a_transaction_changes_nothing(bank: Bank) -> None:
    async def act(work: Work) -> None:
        work.put(bank.source, b"0")
        raise LookupError

    with pytest.raises(LookupError):
        await bank.transactions().run(act)
    assert await bank.balances() == (100, 100)


async def test_of_ten_transfers_at_once_none_is_lost(bank: Bank) -> None:
    """C4, on nodes: everybody reads, everybody writes what he read less one."""
    driver = bank.transactions()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(_patient(driver, bank))
    assert await bank.balances() == (90, 110)
    assert await bank.locked() == set()


async def _patient(driver: KvTransactions, bank: Bank) -> None:
    while True:
        try:
            return await transfers.two_phase(driver, bank.source, bank.target, 1)
        except TransactionConflict:
            continue


async def test_readers_of_both_see_the_whole_sum_while_transfers_go_on(bank: Bank) -> None:
    """C2, on nodes: a reader never sees a transfer half done."""
    driver = bank.transactions()
    sums: list[int] = []

    async def look(work: Work) -> int:
        found = await work.get_all([bank.source, bank.target])
        return sum(int(one or b"0") for one in found.values())

    async def audit() -> None:
        sums.extend([await driver.run(look, attempts=1000) for _ in range(5)])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(audit())
        for _ in range(3):
            tasks.create_task(_patient(driver, bank))
    assert sums == [200] * 5


@pytest.mark.parametrize("point", POINTS["two_phase"][:-1])
async def test_whoever_recovers_after_a_kill_all_or_nothing_is_done(bank: Bank, point: str) -> None:
    """The coordinator dies with -9; before the record nothing was done, after it everything."""
    await bank.die("two_phase", point)
    (tx,) = await bank.in_doubt()
    ended = await bank.transactions().recover(older_than_s=0.0)
    decided = point not in ("prepare 1", "prepare 2")
    assert ended[tx] is (Outcome.COMMIT if decided else Outcome.ABORT)
    assert await bank.balances() == ((90, 110) if decided else (100, 100))
    assert await bank.locked() == set()


async def test_after_the_last_group_was_told_nothing_is_blocked(bank: Bank) -> None:
    await bank.die("two_phase", "finish 2")
    assert await bank.locked() == set()
    assert await bank.balances() == (90, 110)


@pytest.mark.parametrize("point", ["prepare 2", "finish 1"])
async def test_a_reader_that_meets_an_abandoned_intent_ends_it_itself(
    bank: Bank, point: str
) -> None:
    await bank.abandon(point)
    found = await bank.transactions(patience=1).read([bank.target, bank.source])
    values = {key: item.value for key, item in found.items() if item is not None}
    done = {bank.source: b"90", bank.target: b"110"}
    none = {bank.source: b"100", bank.target: b"100"}
    assert values == (none if point == "prepare 2" else done)
    assert await bank.locked() == set()


async def test_a_writer_that_meets_an_abandoned_intent_gets_through(bank: Bank) -> None:
    await bank.abandon("prepare 2")

    async def act(work: Work) -> None:
        work.put(bank.source, b"7")

    await bank.transactions(patience=1).run(act)
    assert await bank.balances() == (7, 100)


async def test_a_coordinator_that_was_only_slow_learns_that_it_was_aborted(bank: Bank) -> None:
    """It stands still between its locks and its record while somebody recovers."""

    async def checkpoint(point: str) -> None:
        if point == "prepare 2":
            ended = await bank.transactions().recover(older_than_s=0.0)
            assert set(ended.values()) == {Outcome.ABORT}

    async def act(work: Work) -> None:
        work.put(bank.source, b"0")
        work.put(bank.target, b"0")

    with pytest.raises(TransactionConflict):
        await bank.transactions(checkpoint=checkpoint).run(act, attempts=1)
    assert await bank.balances() == (100, 100)


@pytest.mark.parametrize("point", POINTS["saga"])
async def test_a_saga_whose_runner_dies_is_ended_by_another_one(bank: Bank, point: str) -> None:
    """And blocks nobody meanwhile; what it has taken is seen to be gone."""
    await bank.die("saga", point)
    assert await bank.locked() == set()
    left, right = await bank.balances()
    assert (left + right == 200) is (point in ("begun", "do_1"))
    sagas = transfers.sagas_over(bank.client)
    for saga in await sagas.unfinished():
        assert await sagas.go_on(saga) == "done"
    assert await bank.balances() == (90, 110)


async def test_a_refused_posting_takes_back_what_was_done(bank: Bank) -> None:
    """The target would fall below zero: the source gets back what was added to it."""
    assert await transfers.saga(bank.client, bank.source, bank.target, -150, None) == "gave_up"
    assert await bank.balances() == (100, 100)


async def test_a_posting_on_what_is_no_number_is_refused_and_taken_back(bank: Bank) -> None:
    await bank.client.put(bank.target, b"closed")
    assert await transfers.saga(bank.client, bank.source, bank.target, 10, None) == "gave_up"
    held = [await bank.client.get(key) for key in (bank.source, bank.target)]
    assert [one.value for one in held if one is not None] == [b"100", b"closed"]


async def test_two_runners_of_one_saga_do_it_once(bank: Bank) -> None:
    sagas = transfers.sagas_over(bank.client)
    saga = await sagas.begin(
        [transfers.Posting(bank.source, -10), transfers.Posting(bank.target, 10)]
    )
    ended = await asyncio.gather(*(sagas.go_on(saga) for _ in range(3)))
    assert ended == ["done"] * 3
    assert await bank.balances() == (90, 110)
