"""Nothing acknowledged is lost with the primary, and all shards come back at one point."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from month2_databases.backup import Target, Writer, confirm, join_barrier, restore_point, ship
from scalelab.errors import Overloaded

from .conftest import FAST

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Providers

pytestmark = pytest.mark.timeout(240)
ACCOUNTS, BALANCE = 8, 1000


def test_with_a_synchronous_receiver_the_loss_of_the_primary_loses_no_acknowledged_row(
    backup_runtime: Runtime, providers: Providers
) -> None:
    """kill -9 under writes; the copy is made from the repository alone, never from the data."""
    from month2_databases.experiments.recovering import start_receiver, start_recovering

    started = start_recovering(backup_runtime, "lost", "folder", providers, settings=FAST)
    with psycopg.connect(started.primary.superuser_dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE drill_order (id bigint PRIMARY KEY, note text)")
        started.tool.backup()
        start_receiver(started)
    writer = Writer(started.primary.superuser_dsn())
    writer.start()
    writer.wait_for(100)
    backup_runtime.kill("lost")
    writer.finish()
    prepared = started.tool.restore(Target(), started.into())
    with started.start_copy(prepared) as copy:
        confirm(copy, prepared)
        with psycopg.connect(copy, autocommit=True) as connection:
            found = {row[0] for row in connection.execute("SELECT id FROM drill_order")}
    assert set(writer.acknowledged) <= found
    assert len(found) <= len(writer.acknowledged) + 1  # one may be committed and not answered


class Transfers(threading.Thread):
    """Moves money between two shards, one branch on each, until told to stop."""

    def __init__(self, dsns: dict[str, str], seed: int) -> None:
        super().__init__(name="transfers", daemon=True)
        self._dsns, self._random = dsns, random.Random(seed)
        self.ending = threading.Event()
        self.done = 0

    def run(self) -> None:
        with ExitStack() as stack:
            shards = {
                name: stack.enter_context(psycopg.connect(self._dsns[name]))
                for name in sorted(self._dsns)
            }
            while not self.ending.is_set():
                self._once(shards)
                self.done += 1

    def _once(self, shards: dict[str, psycopg.Connection[Any]]) -> None:
        account, amount = self._random.randrange(ACCOUNTS), self._random.randrange(1, 9)
        for connection in shards.values():
            join_barrier(connection)
        for sign, connection in zip((-1, 1), shards.values(), strict=True):
            connection.execute(
                "UPDATE account SET balance = balance + %s WHERE id = %s",
                (sign * amount, account),
            )
        for connection in shards.values():
            connection.commit()


def point_in_the_middle_of_a_transfer(dsns: dict[str, str], name: str) -> dict[str, int]:
    """Ask for a point when a transfer has committed on the first shard and not on the second; the
    second commit comes once the barrier waits for it, or once the point is there already. The
    account -1 is this transfer's alone: no mover waits for it."""
    (first, second), answer = sorted(dsns), list[dict[str, int]]()
    with psycopg.connect(dsns[first]) as one, psycopg.connect(dsns[second]) as other:
        for connection in (one, other):
            join_barrier(connection)
        one.execute("UPDATE account SET balance = balance - 500 WHERE id = -1")
        other.execute("UPDATE account SET balance = balance + 500 WHERE id = -1")
        one.commit()
        asking = threading.Thread(
            target=lambda: answer.append(restore_point(dsns, name, timeout_s=30.0))
        )
        asking.start()
        with psycopg.connect(dsns[second], autocommit=True) as looking:
            while asking.is_alive():
                row = looking.execute(
                    "SELECT count(*) FROM pg_locks"
                    " WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted"
                ).fetchone()
                if row != (0,):
                    break
        other.commit()
        asking.join(60.0)
    return answer[0]


def test_shards_restored_to_one_point_agree_on_every_transfer(
    backup_runtime: Runtime, providers: Providers
) -> None:
    """Money moved between shards while the point was written: its sum is what it was."""
    from month2_databases.experiments.recovering import start_recovering

    shards = {
        name: start_recovering(backup_runtime, name, "folder", providers, settings=FAST)
        for name in ("cut-a", "cut-b")
    }
    dsns = {name: one.primary.superuser_dsn() for name, one in shards.items()}
    for name, one in shards.items():
        with psycopg.connect(dsns[name], autocommit=True) as connection:
            connection.execute("CREATE TABLE account (id int PRIMARY KEY, balance bigint)")
            connection.execute(
                "INSERT INTO account SELECT n, %s FROM generate_series(-1, %s) n",
                (BALANCE, ACCOUNTS - 1),
            )
        one.tool.backup()
    movers = [Transfers(dsns, seed) for seed in range(3)]
    for mover in movers:
        mover.start()
    try:
        for number in range(3):
            restore_point(dsns, f"earlier-{number}", timeout_s=30.0)
        points = point_in_the_middle_of_a_transfer(dsns, "all-shards")
    finally:
        for mover in movers:
            mover.ending.set()
        for mover in movers:
            mover.join(30.0)
    assert points.keys() == dsns.keys()
    assert sum(mover.done for mover in movers) > 0
    total = 0
    for name, one in shards.items():
        with psycopg.connect(dsns[name], autocommit=True) as connection:
            ship(connection)
        prepared = one.tool.restore(Target(name="all-shards"), one.into())
        with one.start_copy(prepared) as copy:
            confirm(copy, prepared)
            with psycopg.connect(copy, autocommit=True) as connection:
                row = connection.execute("SELECT sum(balance)::bigint FROM account").fetchone()
        assert row is not None
        total += row[0]
    assert total == 2 * (ACCOUNTS + 1) * BALANCE


def test_a_point_gives_up_while_a_transfer_stays_open(database_dsn: str) -> None:
    """I2: and it leaves its locks behind nowhere."""
    with psycopg.connect(database_dsn) as open_transfer:
        join_barrier(open_transfer)
        with pytest.raises(Overloaded) as refused:
            restore_point({"only": database_dsn}, "too-early", timeout_s=0.2)
        assert refused.value.stable_code == "barrier_busy"
        open_transfer.rollback()
        with psycopg.connect(database_dsn, autocommit=True) as free:
            row = free.execute("SELECT pg_try_advisory_lock(%s)", (0x5CA1AB1E,)).fetchone()
    assert row == (True,)
