"""Capture: outbox rows out of a change stream, transaction by transaction. Pure.

Theory of operation
    The server sends a transaction's changes after its commit, one transaction after the other in
    commit order. Rows wait here until their commit message has come, because only then is there a
    position to confirm. Only inserts count: marks and clean-up change rows, not events.

Invariants (tests cite them)
    C1  Rows are given out in commit order, and within a transaction in the order of the inserts.
    C2  `end_lsn` lies behind the commit of every row given out, and before every other row.
    C3  A row of a transaction that is not complete is never given out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from month3_messaging.outbox.table import Row
from scalelab.clients.pgoutput import Commit, Insert, Message, Relation
from scalelab.errors import CorruptData

_COLUMNS = ("id", "topic", "key", "headers", "value")


@dataclass(frozen=True, slots=True)
class Captured:
    """rows: of whole transactions. end_lsn: what may be confirmed once they are dealt with."""

    rows: list[Row]
    end_lsn: int


class Capture:
    """Collects the messages of one stream; `table`: the name of the outbox table."""

    def __init__(self, table: str = "outbox") -> None:
        self._table = table
        self._layouts: dict[int, tuple[int, ...]] = {}
        self._open: list[Row] = []
        self._complete: list[Row] = []
        self._end_lsn = 0

    def __len__(self) -> int:
        """How many rows are complete."""
        return len(self._complete)

    @property
    def is_between(self) -> bool:
        """Whether no transaction is half here."""
        return not self._open

    def add(self, message: Message) -> None:
        """Take the next message. Raises CorruptData for a row that is no outbox row."""
        match message:
            case Relation():
                if message.name == self._table:
                    self._layouts[message.id] = _layout(message)
            case Insert():
                if message.relation in self._layouts:
                    self._open.append(_row(message, self._layouts[message.relation]))
            case Commit():
                self._complete += self._open
                self._open = []
                self._end_lsn = message.end_lsn
            case _:
                return

    def take(self) -> Captured:
        """All complete rows; they are no longer here afterwards (C1, C2, C3)."""
        taken = Captured(self._complete, self._end_lsn)
        self._complete = []
        return taken


def _layout(relation: Relation) -> tuple[int, ...]:
    try:
        return tuple(relation.columns.index(name) for name in _COLUMNS)
    except ValueError as error:
        raise CorruptData(f"{relation.name} is no outbox table: {error}") from error


def _row(insert: Insert, layout: tuple[int, ...]) -> Row:
    values = [insert.new[at] for at in layout]
    row_id, topic, key, headers, value = values
    if not (
        isinstance(row_id, str)
        and isinstance(topic, str)
        and isinstance(key, str)
        and isinstance(headers, str)
        and isinstance(value, str)
    ):
        raise CorruptData("an outbox row in the log lacks a value")
    return Row(int(row_id), topic, key, json.loads(headers), value.encode())
