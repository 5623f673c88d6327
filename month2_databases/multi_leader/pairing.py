"""Two PostgreSQL leaders that replicate logically to each other, and what becomes of conflicts.

Each node subscribes to the other with `origin = none`: a change is sent on only by the node where
it was made, so nothing runs in circles (PostgreSQL 16). Version 18 also counts the conflicts it
meets and logs the rows. What the server does by itself:

    insert / insert   the arriving row is refused, and its subscription stands still until someone
                      acts; everything behind it waits
    update / update   the arriving row is applied: both nodes do so, and each has the other's value
    update / delete   there is nothing to update: the arriving row is dropped

`schema.sql` resolves the first two by triggers that fire for arriving rows only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql

from month2_databases.multi_leader.convergence import Difference, Rows, compare
from scalelab.errors import DeadlineExceeded, InvalidInput

_KEYS: dict[str, LiteralString] = {
    "plain": "k",
    "lww": "k",
    "by_column": "k",
    "tally": "k || '/' || node",
    "homed": "k",
}
_KINDS = (
    "confl_insert_exists",
    "confl_update_origin_differs",
    "confl_update_missing",
    "confl_delete_origin_differs",
    "confl_delete_missing",
)
_CAUGHT_UP = """
SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class Leader:
    """One of the two. dsn: of a superuser in its database, as the other one reaches it as well."""

    name: str
    dsn: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Both leaders. Every method blocks; waits raise DeadlineExceeded after `within_s`."""

    left: Leader
    right: Leader
    within_s: float = 60.0
    skew_us: Mapping[str, int] = field(default_factory=dict[str, int])

    def create(self) -> None:
        """Make tables and publications on both, then subscribe each to the other.

        Raises InvalidInput for two leaders of one name.
        """
        if self.left.name == self.right.name:
            raise InvalidInput("two leaders have two names: ties are broken by them", field="name")
        text = files("month2_databases.multi_leader").joinpath("schema.sql").read_text("utf-8")
        for leader in (self.left, self.right):
            with _connect(leader) as conn:
                conn.execute(text.encode())
                skew_us = self.skew_us.get(leader.name, 0)
                conn.execute("INSERT INTO this_node VALUES (%s, %s)", (leader.name, skew_us))
        for here, other in self._ways():
            with _connect(here) as conn:
                conn.execute(
                    sql.SQL(
                        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION of_this_node"
                        " WITH (origin = none, copy_data = false)"
                    ).format(sql.Identifier(_subscription(other)), sql.Literal(other.dsn))
                )

    def cut(self) -> None:
        """Hold both subscriptions, as a broken line between the sites would."""
        self._alter("DISABLE")
        for here, _ in self._ways():
            with _connect(here) as conn:
                self._await(
                    lambda conn=conn: (
                        not _scalar(conn, "SELECT count(*) FROM pg_replication_slots WHERE active")
                    ),
                    "both lines are cut",
                )

    def heal(self) -> None:
        """Let both subscriptions go on."""
        self._alter("ENABLE")

    def settle(self) -> None:
        """Wait until each has applied all that the other has committed by now."""
        for here, other in self._ways():
            with _connect(other) as conn:
                end = _scalar(conn, "SELECT pg_current_wal_insert_lsn()")
                slot = _subscription(other)
                self._await(
                    lambda conn=conn, end=end, slot=slot: bool(
                        _scalar(conn, _CAUGHT_UP, (end, slot))
                    ),
                    f"{here.name} has applied what {other.name} wrote",
                )

    def difference(self, table: str) -> Difference:
        """Where the copies of a table differ. Call `settle` first."""
        return compare(rows(self.left, table), rows(self.right, table))

    def conflicts(self) -> dict[str, int]:
        """Conflicts that both servers have counted, by kind. They report with a delay."""
        query = sql.SQL("SELECT {} FROM pg_stat_subscription_stats").format(
            sql.SQL(", ").join(map(sql.Identifier, _KINDS))
        )
        counted: dict[str, int] = dict.fromkeys(map(str, _KINDS), 0)
        for leader in (self.left, self.right):
            with _connect(leader) as conn:
                for row in conn.execute(query).fetchall():
                    for kind, times in zip(_KINDS, row, strict=True):
                        counted[kind] += int(times)
        return counted

    def await_conflict(self, kind: str) -> None:
        """Wait until at least one conflict of that kind was counted."""
        self._await(lambda: self.conflicts()[kind] > 0, f"a conflict of the kind {kind}")

    def _ways(self) -> tuple[tuple[Leader, Leader], tuple[Leader, Leader]]:
        return (self.left, self.right), (self.right, self.left)

    def _alter(self, what: Literal["ENABLE", "DISABLE"]) -> None:
        for here, other in self._ways():
            with _connect(here) as conn:
                name = sql.Identifier(_subscription(other))
                conn.execute(sql.SQL("ALTER SUBSCRIPTION {} {}").format(name, sql.SQL(what)))

    def _await(self, claim: Any, what: str) -> None:
        deadline_s = time.monotonic() + self.within_s
        while not claim():
            if time.monotonic() > deadline_s:
                raise DeadlineExceeded(f"not within {self.within_s:.0f} s: {what}")
            time.sleep(0.05)


def rows(leader: Leader, table: str) -> Rows:
    """A table of one leader by its key. Raises InvalidInput for a table that is not shared."""
    if table not in _KEYS:
        raise InvalidInput(f"{table!r} is not a table of both leaders", field="table")
    query = sql.SQL("SELECT {}, t.* FROM {} AS t").format(
        sql.SQL(_KEYS[table]), sql.Identifier(table)
    )
    with _connect(leader) as conn:
        return {str(row[0]): tuple(row[1:]) for row in conn.execute(query).fetchall()}


def _connect(leader: Leader) -> psycopg.Connection[Any]:
    return psycopg.connect(leader.dsn, autocommit=True, connect_timeout=10)


def _scalar(conn: psycopg.Connection[Any], query: str, values: tuple[object, ...] = ()) -> Any:
    row = conn.execute(query.encode(), values).fetchone()
    return row[0] if row else None


def _subscription(of: Leader) -> str:
    return f"from_{of.name}"
