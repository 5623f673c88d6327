"""Intents: locks that carry what will be written, as keys of the groups. Pure.

Invariants (tests cite them)
    L1  An intent is put only where none is, and only if the key is as it was read.
    L2  It goes only by the outcome of its own transaction: a command to end it names its bytes.
    L3  The intents of one transaction in one group come and go by one command.
    L4  What an intent says is enough for anybody to end its whole transaction.

No lease hangs on an intent: a lock that went with its dead owner would let others read what is
half told. It goes when somebody has read the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from month5_kvstore.store import (
    Codec,
    Compare,
    Delete,
    Found,
    Interval,
    KeyValue,
    Operation,
    Put,
    Range,
    Relation,
    Target,
    Transaction,
    TransactionDone,
)
from month5_kvstore.transactions.calls import Reply
from month5_kvstore.transactions.places import decision_key, intent_key
from scalelab.commit import Outcome
from scalelab.errors import CorruptData


class Change(IntEnum):
    """What becomes of a key when its transaction commits. LOCK: nothing; it was read."""

    LOCK = 0
    PUT = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class Intent:
    """A key's lock. change: a `Change`. keys: all that the transaction locks, in every group."""

    tx: str
    key: bytes
    change: int
    value: bytes
    keys: tuple[bytes, ...]


_CODEC = Codec({64: Intent})


def encode(intent: Intent) -> bytes:
    """As its key holds it."""
    return _CODEC.encode(intent)


def decode(data: bytes) -> Intent:
    """Raises CorruptData."""
    intent = _CODEC.decode(data)
    if not isinstance(intent, Intent):
        raise CorruptData(f"a {type(intent).__name__} lies where an intent should")
    return intent


def unchanged(keys: Iterable[bytes], seen: Mapping[bytes, int]) -> tuple[Compare, ...]:
    """Nobody locks these keys, and those in `seen` were last changed at that revision (L1)."""
    compares: list[Compare] = []
    for key in keys:
        compares.append(Compare(intent_key(key), Target.VERSION, Relation.EQUAL, 0))
        if key in seen:
            compares.append(Compare(key, Target.MODIFIED, Relation.EQUAL, seen[key]))
    return tuple(compares)


def prepare(intents: Iterable[Intent], seen: Mapping[bytes, int]) -> Transaction:
    """Lock keys of one group: the participant's vote is whether it succeeds."""
    ours = tuple(intents)
    puts = tuple(Put(intent_key(one.key), encode(one)) for one in ours)
    return Transaction(unchanged((one.key for one in ours), seen), puts)


def finish(intents: Iterable[Intent], outcome: Outcome) -> Transaction:
    """End these intents of one group. One that is gone already: nothing is done (L2, L3)."""
    ours = tuple(intents)
    compares = [
        Compare(intent_key(one.key), Target.VALUE, Relation.EQUAL, encode(one)) for one in ours
    ]
    then: list[Operation] = [Delete(Interval(intent_key(one.key))) for one in ours]
    if outcome is Outcome.COMMIT:
        then += changes(ours)
    return Transaction(tuple(compares), tuple(then))


def at_once(intents: Iterable[Intent], seen: Mapping[bytes, int]) -> Transaction:
    """The whole of a transaction that one group can carry out alone."""
    ours = tuple(intents)
    return Transaction(unchanged((one.key for one in ours), seen), tuple(changes(ours)))


def changes(intents: Iterable[Intent]) -> list[Operation]:
    """What they do to their keys."""
    operations: list[Operation] = []
    for one in intents:
        if one.change == Change.PUT:
            operations.append(Put(one.key, one.value))
        elif one.change == Change.DELETE:
            operations.append(Delete(Interval(one.key)))
    return operations


def look(keys: Iterable[bytes]) -> Transaction:
    """Keys of one group and their intents, at one moment."""
    pairs = ((Range(Interval(intent_key(key))), Range(Interval(key))) for key in keys)
    return Transaction((), tuple(one for pair in pairs for one in pair))


def looked(keys: Iterable[bytes], done: TransactionDone) -> dict[bytes, KeyValue | Intent | None]:
    """What `look` found: an intent hides the key's value, for nobody may read it yet."""
    items = [one.items for one in done.answers if isinstance(one, Found)]
    found: dict[bytes, KeyValue | Intent | None] = {}
    for place, key in enumerate(keys):
        intents, values = items[2 * place], items[2 * place + 1]
        if intents:
            found[key] = decode(intents[0].value)
        else:
            found[key] = values[0] if values else None
    return found


def record(tx: str, outcome: Outcome) -> Transaction:
    """Write the decision unless there is one; either way say what holds."""
    key = decision_key(tx)
    absent = Compare(key, Target.VERSION, Relation.EQUAL, 0)
    return Transaction((absent,), (Put(key, outcome.value.encode()),), (Range(Interval(key)),))


def recorded(done: Reply, wanted: Outcome) -> Outcome | None:
    """What `record` was answered; None if it was not. Raises CorruptData."""
    if not isinstance(done, TransactionDone):
        return None
    return wanted if done.succeeded else known(done)


def decision(tx: str) -> Transaction:
    """Read the decision."""
    return Transaction((), (Range(Interval(decision_key(tx))),))


def known(done: Reply) -> Outcome | None:
    """What `decision` found; None: none yet, or no answer. Raises CorruptData."""
    if not isinstance(done, TransactionDone):
        return None
    for one in done.answers:
        if isinstance(one, Found) and one.items:
            try:
                return Outcome(one.items[0].value.decode())
            except ValueError as error:
                raise CorruptData(f"no decision: {one.items[0].value[:40]!r}") from error
    return None


def forget(tx: str) -> Transaction:
    """Drop the decision: no intent asks for it any more."""
    return Transaction((), (Delete(Interval(decision_key(tx))),))
