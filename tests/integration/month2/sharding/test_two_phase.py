"""Two-phase commit on real servers: whoever dies, all parts commit or none does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.experiments.transfer_process import killed_at
from month2_databases.sharding import DECISION_SCHEMA, DecisionRegister, TwoPhase
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.commit import Outcome
from scalelab.errors import Conflict, ScalelabError, Unavailable
from scalelab.ids import uuid7

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

Wait = Callable[..., Awaitable[None]]
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "20"}
TAKE = "UPDATE account SET balance = balance - 1 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 1 WHERE id = 1"
STEP_S = 60.0


@dataclass(frozen=True)
class Bank:
    """Two shards of accounts. dsns: by shard, and of the register."""

    runtime: Runtime
    dsns: dict[str, str]

    def execute(self, shard: str, statement: str) -> object:
        with psycopg.connect(self.dsns[shard], autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def balances(self) -> tuple[object, object]:
        of = "SELECT balance FROM account WHERE id = 1"
        return self.execute("a", of), self.execute("b", of)

    def prepared(self) -> int:
        counts = (self.execute(shard, "SELECT count(*) FROM pg_prepared_xacts") for shard in "ab")
        return sum(int(str(count)) for count in counts)


@pytest.fixture(scope="module")
def servers(server_root: Path) -> Iterator[Bank]:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres

    with Runtime(server_root / "two-phase", private=True, is_disposable=True) as runtime:
        shards = {name: Postgres(f"bank-{name}", settings=SETTINGS) for name in "ab"}
        runtime.start(*shards.values())
        dsns = {name: server.ensure_database("bank", "bank") for name, server in shards.items()}
        dsns["register"] = shards["a"].ensure_database("decisions", "bank")
        for name in "ab":
            with psycopg.connect(dsns[name], autocommit=True) as conn:
                conn.execute("CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)")
                conn.execute("CREATE TABLE seen (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        with psycopg.connect(dsns["register"], autocommit=True) as conn:
            conn.execute(DECISION_SCHEMA)
        yield Bank(runtime, dsns)


@pytest.fixture
def bank(servers: Bank) -> Bank:
    """Both accounts hold 100, and nothing was ever decided."""
    servers.execute("register", "TRUNCATE commit_decision")
    for name in "ab":
        servers.execute(name, "TRUNCATE seen")
        servers.execute(
            name,
            "INSERT INTO account VALUES (1, 100) ON CONFLICT (id) DO UPDATE SET balance = 100",
        )
    return servers


@pytest.fixture
async def opened(bank: Bank) -> AsyncIterator[dict[str, Database]]:
    databases = {
        name: Database(
            PostgresSettings(dsn, acquire_timeout_s=10.0, connect_timeout_s=10.0), name=name
        )
        for name, dsn in bank.dsns.items()
    }
    for database in databases.values():
        await database.__aenter__()
    yield databases
    for database in databases.values():
        await database.__aexit__()


def coordinator(opened: dict[str, Database], **settings: object) -> TwoPhase:
    shards = {name: opened[name] for name in "ab"}
    arguments = {"prepare_timeout_s": STEP_S, "timeout_s": STEP_S, **settings}
    return TwoPhase(shards, DecisionRegister(opened["register"]), SystemClock(), **arguments)  # pyright: ignore[reportArgumentType]


async def transfer(two_phase: TwoPhase) -> tuple[str, ...]:
    async with two_phase.transaction(["a", "b"]) as work:
        await work["a"].execute(TAKE)
        await work["b"].execute(GIVE)
    return work.untold


async def test_a_transfer_commits_on_both_shards(bank: Bank, opened: dict[str, Database]) -> None:
    """And leaves nothing behind: nobody in doubt, no record of the decision."""
    assert await transfer(coordinator(opened)) == ()
    assert bank.balances() == (99, 101)
    assert bank.prepared() == 0
    assert bank.execute("register", "SELECT count(*) FROM commit_decision") == 0


async def test_an_error_in_the_block_changes_nothing_anywhere(
    bank: Bank, opened: dict[str, Database]
) -> None:
    """The block's own error comes out; both connections are usable again."""
    two_phase = coordinator(opened)

    async def change_of_mind() -> None:
        async with two_phase.transaction(["a", "b"]) as work:
            await work["a"].execute(TAKE)
            raise Conflict("changed my mind")

    with pytest.raises(Conflict, match="changed my mind"):
        await change_of_mind()
    assert bank.balances() == (100, 100)
    assert await transfer(two_phase) == ()


async def test_a_shard_that_cannot_prepare_makes_all_abort(
    bank: Bank, opened: dict[str, Database]
) -> None:
    """A rule that is checked at the end is broken on b: a, which had prepared, rolls back."""

    async def broken() -> None:
        async with coordinator(opened).transaction(["a", "b"]) as work:
            await work["a"].execute(TAKE)
            await work["b"].execute("INSERT INTO seen VALUES (1), (1)")

    with pytest.raises(Conflict) as refusal:
        await broken()
    assert refusal.value.stable_code == "unique_violation"
    assert (bank.balances(), bank.prepared()) == ((100, 100), 0)


async def test_a_swallowed_error_makes_all_abort(bank: Bank, opened: dict[str, Database]) -> None:
    """PREPARE of a failed transaction rolls back and reports success; that is no vote."""

    async def swallowed() -> None:
        async with coordinator(opened).transaction(["a", "b"]) as work:
            await work["a"].execute(TAKE)
            with pytest.raises(psycopg.Error):
                await work["b"].execute("SELECT nonsense")

    with pytest.raises(ScalelabError) as refusal:
        await swallowed()
    assert refusal.value.stable_code == "transaction_aborted"
    assert (bank.balances(), bank.prepared()) == ((100, 100), 0)


@pytest.mark.parametrize(
    ("step", "outcome", "balances"),
    [("prepared", Outcome.ABORT, (100, 100)), ("decided", Outcome.COMMIT, (99, 101))],
)
async def test_a_coordinator_killed_between_prepare_and_commit_is_recovered(
    bank: Bank,
    opened: dict[str, Database],
    step: str,
    outcome: Outcome,
    balances: tuple[int, int],
) -> None:
    """Before the decision nothing happened, after it everything did; until then rows are locked."""
    told = {"source": bank.dsns["a"], "target": bank.dsns["b"], "register": bank.dsns["register"]}
    await killed_at(step, "two_phase", {**told, "account": 1, "amount": 1}, within_s=STEP_S)
    assert bank.prepared() == 2
    assert bank.balances() == (100, 100)  # readers see the old rows and do not wait
    with pytest.raises(psycopg.errors.LockNotAvailable):
        bank.execute("b", "SET lock_timeout = '100ms'; " + GIVE)
    two_phase = coordinator(opened)
    assert await two_phase.recover(older_than_s=3600.0) == {}  # it may still be alive
    ended = await two_phase.recover(older_than_s=0.0)
    assert list(ended.values()) == [outcome]
    assert (bank.balances(), bank.prepared()) == (balances, 0)
    assert await two_phase.recover(older_than_s=0.0) == {}


async def test_a_coordinator_that_is_only_slow_learns_that_it_was_recovered(
    bank: Bank, opened: dict[str, Database]
) -> None:
    """G5: the recovery has the first word; the commit that comes after it reads the abort."""
    other = coordinator(opened)

    async def recovered_meanwhile(step: str) -> None:
        if step == "prepared":
            assert list((await other.recover(older_than_s=0.0)).values()) == [Outcome.ABORT]

    with pytest.raises(Unavailable) as refusal:
        await transfer(coordinator(opened, checkpoint=recovered_meanwhile))
    assert refusal.value.stable_code == "transaction_aborted"
    assert (bank.balances(), bank.prepared()) == ((100, 100), 0)


async def test_a_shard_that_dies_after_the_decision_is_told_later(
    bank: Bank, opened: dict[str, Database], wait_until: Wait
) -> None:
    """The transfer is committed; b's part is in doubt over the crash, and recovery commits it."""

    async def b_dies(step: str) -> None:
        if step == "decided":
            await asyncio.to_thread(bank.runtime.kill, "bank-b")

    two_phase = coordinator(opened)
    try:
        assert await transfer(coordinator(opened, checkpoint=b_dies)) == ("b",)
        assert await two_phase.recover(older_than_s=0.0) == {}  # b is away and passed over
    finally:
        await asyncio.to_thread(bank.runtime.restart, "bank-b")
    assert bank.balances() == (99, 100)
    assert list((await two_phase.in_doubt()).values()) == [("b",)]

    async def recovered() -> bool:
        return Outcome.COMMIT in (await two_phase.recover(older_than_s=0.0)).values()

    await wait_until(recovered, what="b is told")
    assert (bank.balances(), bank.prepared()) == ((99, 101), 0)


async def test_one_shard_alone_is_an_ordinary_commit(
    bank: Bank, opened: dict[str, Database]
) -> None:
    """G4: no prepare, no decision; the checkpoints are never met."""

    async def never(step: str) -> None:
        pytest.fail(f"{step} on the way of one shard")

    async with coordinator(opened, checkpoint=never).transaction(["a"]) as work:
        await work["a"].execute(TAKE)
    assert bank.balances() == (99, 100)


async def test_a_server_without_prepared_transactions_says_so(
    bank: Bank, opened: dict[str, Database], database_dsn: str
) -> None:
    """The error names the setting, and the other shard rolls back."""
    async with Database(PostgresSettings(database_dsn), name="b") as plain:

        async def refused() -> None:
            async with coordinator({**opened, "b": plain}).transaction(["a", "b"]) as work:
                await work["a"].execute(TAKE)

        with pytest.raises(ScalelabError, match="max_prepared_transactions") as refusal:
            await refused()
    assert refusal.value.stable_code == "two_phase_disabled"
    assert (bank.balances(), bank.prepared()) == ((100, 100), 0)


async def test_the_register_keeps_the_first_word_and_refuses_late_commits(
    bank: Bank, opened: dict[str, Database]
) -> None:
    """Twenty at once agree; a transaction older than the limit can only abort."""
    clock = SystemClock()
    register = DecisionRegister(opened["register"])
    tx = uuid7(clock.now())
    wanted = [Outcome.COMMIT, Outcome.ABORT] * 10
    held = await asyncio.gather(*(register.record(tx, outcome) for outcome in wanted))
    assert len(set(held)) == 1
    assert await register.read(tx) is held[0]
    late = DecisionRegister(opened["register"], max_age_s=-1.0)
    assert await late.record(uuid7(clock.now()), Outcome.COMMIT) is Outcome.ABORT
    assert await late.prune() >= 1
