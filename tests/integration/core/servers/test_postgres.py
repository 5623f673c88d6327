"""PostgreSQL: crash and return, replicas that follow, commits that wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres

Until = Callable[..., None]


@pytest.fixture(scope="module")
def pair(server_root: Path) -> Iterator[tuple[Runtime, Postgres, Postgres]]:
    """A primary and its replica, started by one call; a test that breaks one repairs it."""
    with Runtime(server_root / "pair", private=True) as runtime:
        primary = Postgres("pair-0")
        replica = primary.add_replica("pair-0-r1", application_name="follower")
        runtime.start(replica, primary)
        run(primary, "CREATE TABLE note (n int PRIMARY KEY)")
        yield runtime, primary, replica


def run(server: Postgres, statement: str) -> list[tuple[object, ...]]:
    """One statement as superuser, rows if it has any."""
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def holds(server: Postgres, number: int) -> bool:
    """Whether the note is visible on this server. A replica may be older than the table itself."""
    try:
        return run(server, f"SELECT n FROM note WHERE n = {number}") == [(number,)]
    except psycopg.errors.UndefinedTable:
        return False


def test_committed_rows_survive_kill_9_of_the_primary(
    pair: tuple[Runtime, Postgres, Postgres], until: Until
) -> None:
    """Killed and restarted three times, the primary has every commit and the replica follows."""
    runtime, primary, replica = pair
    for number in (101, 102, 103):
        run(primary, f"INSERT INTO note VALUES ({number})")
        runtime.kill(primary.name)
        with pytest.raises(psycopg.OperationalError):
            run(primary, "SELECT 1")
        runtime.restart(primary.name)
        assert holds(primary, number)
    run(primary, "INSERT INTO note VALUES (104)")
    until(lambda: holds(replica, 104), what="the replica follows the restarted primary")


def test_a_replica_catches_up_after_kill_and_stop(
    pair: tuple[Runtime, Postgres, Postgres], until: Until
) -> None:
    """What the primary committed while the replica was away arrives from its slot."""
    runtime, primary, replica = pair
    for number, leave in ((201, runtime.kill), (202, runtime.stop)):
        leave(replica.name)
        run(primary, f"INSERT INTO note VALUES ({number})")
        runtime.restart(replica.name)
        until(lambda number=number: holds(replica, number), what="the missed commit arrives")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        run(replica, "INSERT INTO note VALUES (203)")


def test_the_primary_knows_its_replica_by_application_name(
    pair: tuple[Runtime, Postgres, Postgres], until: Until
) -> None:
    """The name that synchronous_standby_names matches, over the replica's own slot."""
    _, primary, replica = pair
    query = "SELECT application_name, state FROM pg_stat_replication"
    until(lambda: run(primary, query) == [("follower", "streaming")], what="it streams")
    slots = run(primary, "SELECT slot_name, active FROM pg_replication_slots")
    assert slots == [(replica.slot, True)]


def test_a_synchronous_commit_waits_for_the_replica(
    pair: tuple[Runtime, Postgres, Postgres], until: Until
) -> None:
    """With the named replica gone a commit does not return; without names it does."""
    runtime, primary, replica = pair
    primary.set_synchronous(["follower"])
    state = "SELECT sync_state FROM pg_stat_replication"
    until(lambda: run(primary, state) == [("quorum",)], what="the replica counts")
    run(primary, "INSERT INTO note VALUES (301)")
    runtime.stop(replica.name)
    waiting = psycopg.connect(primary.superuser_dsn(), autocommit=True)
    try:
        with psycopg.connect(primary.superuser_dsn(), autocommit=True) as other:
            pid = waiting.info.backend_pid
            waiting.pgconn.send_query(b"INSERT INTO note VALUES (302)")
            wait = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
            until(
                lambda: other.execute(wait, (pid,)).fetchone() == ("SyncRep",),
                what="the commit waits for the standby",
            )
    finally:
        primary.set_synchronous([])
        waiting.close()
        runtime.restart(replica.name)
    run(primary, "INSERT INTO note VALUES (303)")


def test_clusters_do_not_share_an_identity_or_a_password(
    pair: tuple[Runtime, Postgres, Postgres],
) -> None:
    """Two primaries differ in system identifier; a replica has its primary's."""
    runtime, primary, replica = pair
    lone = Postgres("lone")
    runtime.start(lone)
    query = "SELECT system_identifier FROM pg_control_system()"
    assert run(primary, query) == run(replica, query) != run(lone, query)
    assert lone.password("postgres") != primary.password("postgres")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(lone.dsn(password=primary.password("postgres")))


def test_a_database_is_closed_to_other_roles(pair: tuple[Runtime, Postgres, Postgres]) -> None:
    """ensure_database can be repeated; each role enters its own database only."""
    _, primary, _ = pair
    mine = primary.ensure_database("mine", "me")
    assert primary.ensure_database("mine", "me") == mine
    primary.ensure_database("yours", "you")
    with psycopg.connect(mine) as connection:
        connection.execute("CREATE TABLE t (n int)")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(primary.dsn("yours", "me"))
