"""Transactions: conditions looked at, everything that could fail looked at, then carried out whole.

Nothing is undone, because nothing is begun that may fail: a refused transaction has not changed
anything (see `Store.execute`). Transactions inside others are decided with them, before anything
is done: what is left is one list of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from month5_kvstore.store.commands import (
    Compare,
    Delete,
    Deleted,
    Found,
    Operation,
    Put,
    PutDone,
    Relation,
    Step,
    Target,
    Transaction,
    TransactionDone,
)
from month5_kvstore.store.errors import DuplicateKey
from month5_kvstore.store.values import Interval, Version

_RELATIONS: dict[int, Callable[[bytes | int, bytes | int], bool]] = {
    Relation.EQUAL: lambda found, wanted: found == wanted,
    Relation.NOT_EQUAL: lambda found, wanted: found != wanted,
    Relation.LESS: lambda found, wanted: found < wanted,  # type: ignore[operator]
    Relation.GREATER: lambda found, wanted: found > wanted,  # type: ignore[operator]
}


def holds(compare: Compare, tip: Version | None) -> bool:
    """Whether the key's newest version is as it must be. A value that is not there never is."""
    version = tip if tip is not None and tip.version else None
    if compare.target == Target.VALUE:
        if version is None:
            return False
        found: bytes | int = version.value
    else:
        found = 0 if version is None else _number(compare.target, version)
    return _RELATIONS[compare.relation](found, compare.operand)


@dataclass(frozen=True, slots=True)
class Course:
    """What a transaction will do. succeeded: its comparisons hold.

    steps: of the branch that is taken, with a course in the place of a transaction.
    """

    succeeded: bool
    steps: tuple[Operation | Course, ...]

    def operations(self) -> Iterator[Operation]:
        """All of them, in the order in which they are carried out."""
        for step in self.steps:
            if isinstance(step, Course):
                yield from step.operations()
            else:
                yield step

    def done(self, answers: Iterator[PutDone | Deleted | Found], revision: int) -> TransactionDone:
        """The answers to `operations`, in the shape of the transaction."""
        told = tuple(
            step.done(answers, revision) if isinstance(step, Course) else next(answers)
            for step in self.steps
        )
        return TransactionDone(revision, self.succeeded, told)


def course_of(transaction: Transaction, meets: Callable[[Compare], bool]) -> Course:
    """Decide it, and all that are inside the branches that are taken. meets: asks the store."""
    succeeded = all(map(meets, transaction.compares))
    steps = transaction.then if succeeded else transaction.otherwise
    return Course(
        succeeded,
        tuple(course_of(one, meets) if isinstance(one, Transaction) else one for one in steps),
    )


def refuse_duplicates(transaction: Transaction) -> None:
    """Raises DuplicateKey if a branch may put a key twice, or put and delete it.

    Of a transaction inside both branches count, but not against each other. What it puts may be
    deleted by another one that stands behind it at the same level, as etcd has it.
    """
    for branch in (transaction.then, transaction.otherwise):
        _writes_of(branch)


def keys_of(transaction: Transaction) -> list[bytes]:
    """Every key that it names; of an interval where it starts."""
    keys = [compare.key for compare in transaction.compares]
    for step in (*transaction.then, *transaction.otherwise):
        match step:
            case Put():
                keys.append(step.key)
            case Transaction():
                keys += keys_of(step)
            case _:
                keys.append(step.interval.start)
    return keys


def _writes_of(branch: Sequence[Step]) -> tuple[set[bytes], list[Interval]]:
    """Keys that a branch may put and intervals that it may delete from. Raises DuplicateKey."""
    put: set[bytes] = set()
    deleted = [one.interval for one in branch if isinstance(one, Delete)]
    for one in branch:
        if isinstance(one, Transaction):
            parts = [_writes_of(inner) for inner in (one.then, one.otherwise)]
            _join(put, set[bytes]().union(*(keys for keys, _ in parts)), deleted)
            deleted += [interval for _, intervals in parts for interval in intervals]
    for one in branch:
        if isinstance(one, Put):
            _join(put, {one.key}, deleted)
    return put, deleted


def _join(put: set[bytes], more: set[bytes], deleted: Sequence[Interval]) -> None:
    """Add keys to those that are put. Raises DuplicateKey."""
    if twice := put & more:
        raise DuplicateKey(f"{min(twice)[:60]!r} is put twice", field="key")
    if any(key in interval for key in more for interval in deleted):
        raise DuplicateKey("a key is both put and deleted", field="key")
    put |= more


def _number(target: int, version: Version) -> int:
    match target:
        case Target.VERSION:
            return version.version
        case Target.CREATED:
            return version.created
        case Target.MODIFIED:
            return version.revision
        case _:
            return version.lease
