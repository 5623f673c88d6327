"""A server that keeps little log for its slots: the move that needed more is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from month2_databases.resharding import Step
from tests.fixtures.databases import Databases, databases_on

if TYPE_CHECKING:
    from tests.integration.month2.resharding.conftest import Shop

SCARCE = {"fsync": "off", "max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"}


@pytest.fixture(scope="module")
def postgres_server(server_root: Path) -> Iterator[Any]:
    """A server of this module alone, under the name by which the shop asks for one."""
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres

    with Runtime(server_root / "scarce", private=True, is_disposable=True) as runtime:
        server = Postgres("scarce", settings=SCARCE)
        runtime.start(server)
        yield server


@pytest.fixture(scope="module")
def databases(postgres_server: Any) -> Iterator[Databases]:
    """Databases on that server."""
    with databases_on(postgres_server) as made:
        yield made


def outrun(dsn: str) -> str:
    """Write log and have the server let go of it, until the move's slot is lost; its state."""
    row = None
    with psycopg.connect(dsn, autocommit=True) as conn:
        for _ in range(20):
            conn.execute("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")
            conn.execute("CHECKPOINT")
            row = conn.execute("SELECT wal_status FROM pg_replication_slots").fetchone()
            if row is not None and row[0] == "lost":
                return "lost"
    return str(row)


@pytest.mark.parametrize("point", ["catching_up.begun", "catching_up.streaming"])
async def test_a_slot_that_fell_too_far_behind_aborts_the_move(shop: Shop, point: str) -> None:
    """G5: not read yet, and being read. Behind the fence it may be needed no more: not judged.

    Nobody writes meanwhile: the loop stands still while the log is outrun.
    """
    moving = shop.slots_of("a", 1)
    (user,) = [shop.user_in(slot) for slot in moving]
    await shop.open_account(user)
    await shop.add(user, 1)
    before = await shop.store.current()
    states: list[str] = []

    def passed(here: str) -> None:
        if here == point and not states:
            states.append(outrun(shop.servers["a"].dsn))

    mover = shop.mover(passed=passed)
    await mover.plan("m1", moving, "b")
    move = await mover.run("m1")
    assert states == ["lost"]
    assert (move.step, "m1" in move.reason) == (Step.ABORTED, True), move.reason
    after = await shop.store.current()
    assert (after.shard_map.owners, after.moves) == (before.shard_map.owners, ())
    await shop.add(user, 2)
    assert shop.entries() == shop.acked
    assert shop.rows("b", "SELECT id FROM account") == []
    assert shop.left_behind() == []
