"""Two real leaders write the same rows while the line between them is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from month2_databases.multi_leader import (
    Leader,
    Pair,
    Row,
    Stamp,
    Tally,
    last_write,
    rows,
    value,
)
from scalelab.errors import InvalidInput

pytestmark = pytest.mark.timeout(240)
_SETTINGS = {"fsync": "off", "track_commit_timestamp": "on", "max_connections": "100"}


@pytest.fixture(scope="session")
def leaders(server_root: Path) -> Iterator[tuple[Any, Any]]:
    """Two servers of a version that counts conflicts."""
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres
    from scalelab.lab.servers.postgres_config import RECIPE_18

    with Runtime(server_root / "leaders", private=True, is_disposable=True) as runtime:
        made = tuple(
            Postgres(name, settings=_SETTINGS, recipe=RECIPE_18) for name in ("east", "west")
        )
        runtime.start(*made)
        yield made[0], made[1]


@pytest.fixture
def pair(leaders: tuple[Any, Any], request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A database on each, subscribed to each other and cut apart; dropped after the test."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    for server in leaders:
        server.ensure_database(name, "tester")
    skew_us = getattr(request, "param", {})
    east, west = (Leader(one.name, one.superuser_dsn(name)) for one in leaders)
    made = Pair(east, west, skew_us=skew_us)
    made.create()
    made.cut()
    yield made
    for server, other in (leaders, leaders[::-1]):
        with psycopg.connect(server.superuser_dsn(name), autocommit=True) as conn:
            conn.execute(f"ALTER SUBSCRIPTION from_{other.name} DISABLE".encode())
            conn.execute(f"ALTER SUBSCRIPTION from_{other.name} SET (slot_name = NONE)".encode())
            conn.execute(f"DROP SUBSCRIPTION from_{other.name}".encode())
    for server in leaders:
        with psycopg.connect(server.superuser_dsn(), autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
            )
            for (slot,) in conn.execute("SELECT slot_name FROM pg_replication_slots").fetchall():
                _drop(conn, slot)
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _drop(conn: psycopg.Connection[Any], slot: str) -> None:
    for _ in range(200):
        try:
            conn.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        except psycopg.errors.ObjectInUse:
            conn.execute("SELECT pg_sleep(0.05)")
        else:
            return


def on(leader: Leader, *statements: str) -> None:
    with psycopg.connect(leader.dsn, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def together(pair: Pair) -> None:
    pair.heal()
    pair.settle()


def shared(pair: Pair, statement: str) -> None:
    """Run it on the left and have it on both before the line is cut again."""
    on(pair.left, statement)
    together(pair)
    pair.cut()


def test_with_nothing_done_two_updates_swap_and_the_copies_stay_apart(pair: Pair) -> None:
    """Each has the other's value. The server counts it and goes on."""
    shared(pair, "INSERT INTO plain VALUES ('k', 'first')")
    on(pair.left, "UPDATE plain SET v = 'east'")
    on(pair.right, "UPDATE plain SET v = 'west'")
    together(pair)
    assert pair.difference("plain").unequal == ("k",)
    assert rows(pair.left, "plain") == {"k": ("k", "west")}
    assert rows(pair.right, "plain") == {"k": ("k", "east")}
    pair.await_conflict("confl_update_origin_differs")


def test_with_nothing_done_two_inserts_of_a_key_stop_replication(pair: Pair) -> None:
    """The arriving row is refused again and again, and what stands behind it waits."""
    on(pair.left, "INSERT INTO plain VALUES ('k', 'east')", "INSERT INTO plain VALUES ('e', '1')")
    on(pair.right, "INSERT INTO plain VALUES ('k', 'west')", "INSERT INTO plain VALUES ('w', '1')")
    pair.heal()
    pair.await_conflict("confl_insert_exists")
    assert "w" not in rows(pair.left, "plain")
    for leader in (pair.left, pair.right):  # what a person does about it: on both, or one stands
        on(leader, "DELETE FROM plain WHERE k = 'k'")
    pair.settle()
    assert "w" in rows(pair.left, "plain")


def test_with_nothing_done_an_update_of_a_deleted_row_is_dropped(pair: Pair) -> None:
    """The copies are equal, and the update is nowhere."""
    shared(pair, "INSERT INTO plain VALUES ('k', 'first')")
    on(pair.left, "UPDATE plain SET v = 'east'")
    on(pair.right, "DELETE FROM plain")
    together(pair)
    assert rows(pair.left, "plain") == rows(pair.right, "plain") == {}
    pair.await_conflict("confl_update_missing")


def test_last_write_wins_converges_on_what_the_pure_merge_says(pair: Pair) -> None:
    """Insert/insert, update/update and update/delete in one go; the later stamp stands."""
    shared(pair, "INSERT INTO lww (k, v) VALUES ('u', 'first'), ('d', 'first')")
    on(pair.left, "INSERT INTO lww (k, v) VALUES ('i', 'east')", "UPDATE lww SET v = 'east'")
    on(
        pair.right,
        "INSERT INTO lww (k, v) VALUES ('i', 'west')",
        "UPDATE lww SET v = 'west' WHERE k = 'u'",
        "UPDATE lww SET is_deleted = true WHERE k = 'd'",
    )
    versions = [_lww(leader) for leader in (pair.left, pair.right)]
    together(pair)
    assert pair.difference("lww").is_none
    expected = {key: last_write(versions[0][key], versions[1][key]) for key in versions[0]}
    assert _lww(pair.left) == expected


@pytest.mark.parametrize("pair", [{"east": 3_600_000_000}], indirect=True)
def test_a_clock_that_runs_ahead_wins_over_every_later_write(pair: Pair) -> None:
    """East's clock is an hour ahead: west's write, made afterwards, is lost without a word."""
    shared(pair, "INSERT INTO lww (k, v) VALUES ('k', 'first')")
    on(pair.left, "UPDATE lww SET v = 'east, earlier'")
    on(pair.right, "UPDATE lww SET v = 'west, later', is_deleted = false")
    together(pair)
    assert pair.difference("lww").is_none
    # West had seen 'first' with its stamp an hour ahead and stamped after it: still before east's.
    assert rows(pair.right, "lww")["k"][1] == "east, earlier"


def test_writes_to_two_columns_of_a_row_both_stand(pair: Pair) -> None:
    """By column nothing is lost that did not collide."""
    shared(pair, "INSERT INTO by_column (k, title, price) VALUES ('k', 'first', '1')")
    on(pair.left, "UPDATE by_column SET title = 'east'")
    on(pair.right, "UPDATE by_column SET price = '2'")
    together(pair)
    assert pair.difference("by_column").is_none
    assert rows(pair.left, "by_column")["k"][1:3] == ("east", "2")


def test_a_counter_loses_no_increment(pair: Pair) -> None:
    """Both add and take while apart; the sum is the same on both."""
    on(pair.left, *["SELECT count_up('k', 1)"] * 5)
    on(pair.right, *["SELECT count_up('k', 1)"] * 4, "SELECT count_up('k', -2)")
    together(pair)
    assert pair.difference("tally").is_none
    counter = {
        str(row[1]): Tally(int(str(row[2])), int(str(row[3])))
        for row in rows(pair.right, "tally").values()
    }
    assert value(counter) == 7


def test_a_row_with_a_home_is_refused_elsewhere_and_never_in_conflict(pair: Pair) -> None:
    """Avoidance: the writer is told at once, instead of losing later."""
    shared(pair, "INSERT INTO homed VALUES ('k', 'east', 'first')")
    for statement in (
        "UPDATE homed SET v = 'west'",
        "DELETE FROM homed",
        "UPDATE homed SET home = 'west'",
        "INSERT INTO homed VALUES ('j', 'east', 'x')",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            on(pair.right, statement)
    on(pair.left, "UPDATE homed SET v = 'east'")
    on(pair.right, "INSERT INTO homed VALUES ('w', 'west', 'west')")
    together(pair)
    assert pair.difference("homed").is_none
    assert set(rows(pair.left, "homed")) == {"k", "w"}
    assert sum(pair.conflicts().values()) == 0


def test_bad_pairs_and_tables_are_refused(pair: Pair) -> None:
    """Nothing is asked of a server."""
    with pytest.raises(InvalidInput) as same:
        Pair(pair.left, pair.left).create()
    assert same.value.field == "name"
    with pytest.raises(InvalidInput) as table:
        rows(pair.left, "this_node")
    assert table.value.field == "table"


def _lww(leader: Leader) -> dict[str, Row]:
    return {
        key: Row((str(row[1]),), bool(row[2]), Stamp(int(str(row[3])), str(row[4])))
        for key, row in rows(leader, "lww").items()
    }
