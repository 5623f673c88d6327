"""From decoded messages to what must be done at the target, for the moving slots only. Pure.

Theory of operation
    The log shows the changes of all rows of a table. A row belongs to the move if its slot does,
    and its slot is for ever (the slot guard refuses to change it). Inserts and updates show it. A
    delete shows the replica identity alone: unless the slot is part of that, it is passed on for
    any slot, and the target restricts it to rows of the moving ones. That is right, since at any
    point of the log a key names one row.

    A key that changes is a removal and a new row; a large value that an update did not touch is
    not in the log, so the rest of the row is patched.

    Transactions come whole and in commit order. What is collected is a prefix of the source's
    history, so applying it in one transaction of the target shows a state the source was in.

Invariants (tests cite them)
    I1  Applying the changes to a copy of the moving rows gives the moving rows of the source.
    I2  No change touches a row of another slot.
    I3  A transaction is in no batch, or in one, whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from scalelab.clients import pgoutput
from scalelab.clients.pgoutput import UNCHANGED, Message, Relation, Row, Value
from scalelab.errors import CorruptData


@dataclass(frozen=True, slots=True)
class Upsert:
    """The row with these values, whether it was there or not."""

    table: str
    values: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Patch:
    """New values for some columns of the row with this key; the others are large and unchanged."""

    table: str
    key: tuple[tuple[str, Value], ...]
    values: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """No row with this key in the moving slots."""

    table: str
    key: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class RemoveAll:
    """No row in the moving slots: the source's table was truncated."""

    table: str


Change = Upsert | Patch | Remove | RemoveAll


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole transactions of the source. end_lsn: after the last. said: messages among them."""

    changes: tuple[Change, ...]
    end_lsn: int
    said: tuple[pgoutput.Said, ...]
    transactions: int


class Collector:
    """Collects the changes of whole transactions. slot_columns: by table, where the slot stands."""

    def __init__(self, slots: Collection[int], slot_columns: Mapping[str, str]) -> None:
        self._slots = frozenset(str(slot) for slot in slots)
        self._slot_columns = dict(slot_columns)
        self._relations: dict[int, Relation] = {}
        self._open: list[Change] = []
        self._open_said: list[pgoutput.Said] = []
        self._changes: list[Change] = []
        self._said: list[pgoutput.Said] = []
        self._end_lsn = 0
        self._transactions = 0

    def add(self, message: Message) -> None:
        """One message, in order. Raises CorruptData for a row of a table that was not described."""
        match message:
            case Relation():
                self._relations[message.id] = message
            case pgoutput.Begin():
                self._open, self._open_said = [], []
            case pgoutput.Insert():
                self._put(self._relations_of(message.relation), None, message.new)
            case pgoutput.Update():
                self._put(self._relations_of(message.relation), message.old, message.new)
            case pgoutput.Delete():
                self._remove(self._relations_of(message.relation), message.old)
            case pgoutput.Truncate():
                names = [self._relations_of(one).name for one in message.relations]
                self._open += [RemoveAll(name) for name in names if name in self._slot_columns]
            case pgoutput.Said():
                self._open_said.append(message)
            case pgoutput.Commit():
                self._changes += self._open
                self._said += self._open_said
                self._end_lsn = message.end_lsn
                self._transactions += 1
            case pgoutput.Other():
                pass

    @property
    def pending(self) -> int:
        """Changes of whole transactions that wait to be taken."""
        return len(self._changes)

    @property
    def transactions(self) -> int:
        """Transactions since the last `take`, with changes or without."""
        return self._transactions

    def has_said(self, content: bytes) -> bool:
        """Whether a message with this content is in a transaction that waits to be taken."""
        return any(said.content == content for said in self._said)

    def take(self) -> Batch:
        """What was collected since the last call (I3)."""
        batch = Batch(tuple(self._changes), self._end_lsn, tuple(self._said), self._transactions)
        self._changes, self._said, self._transactions = [], [], 0
        return batch

    def _relations_of(self, relation: int) -> Relation:
        try:
            return self._relations[relation]
        except KeyError:
            raise CorruptData(f"rows of an undescribed table {relation}") from None

    def _put(self, relation: Relation, old: Row | None, new: Row) -> None:
        named = tuple(zip(relation.columns, new, strict=True))
        if dict(named)[self._slot_columns[relation.name]] not in self._slots:
            return
        key = _key(relation, new)
        before = key if old is None else _key(relation, old)
        if before != key:
            self._open.append(Remove(relation.name, before))
        if UNCHANGED in new:
            known = tuple((name, value) for name, value in named if value is not UNCHANGED)
            self._open.append(Patch(relation.name, key, known))
        else:
            self._open.append(Upsert(relation.name, named))

    def _remove(self, relation: Relation, old: Row) -> None:
        column = self._slot_columns[relation.name]
        slot = dict(zip(relation.columns, old, strict=True))[column]
        if slot is None or slot in self._slots:
            self._open.append(Remove(relation.name, _key(relation, old)))


def _key(relation: Relation, row: Row) -> tuple[tuple[str, Value], ...]:
    named = dict(zip(relation.columns, row, strict=True))
    return tuple((name, named[name]) for name in relation.keys)
