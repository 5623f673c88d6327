"""Transactions: conditions looked at, everything that could fail looked at, then carried out whole.

Nothing is undone, because nothing is begun that may fail: a refused transaction has not changed
anything (see `Store.execute`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from month5_kvstore.store.commands import (
    Compare,
    Delete,
    Operation,
    Put,
    Relation,
    Target,
    Transaction,
)
from month5_kvstore.store.errors import DuplicateKey
from month5_kvstore.store.values import Version

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


def refuse_duplicates(transaction: Transaction) -> None:
    """Raises DuplicateKey if a branch puts a key twice, or puts and deletes it."""
    for branch in (transaction.then, transaction.otherwise):
        _refuse_duplicates(branch)


def keys_of(transaction: Transaction) -> list[bytes]:
    """Every key that it names; of an interval where it starts."""
    operations = chain(transaction.then, transaction.otherwise)
    return [
        *(compare.key for compare in transaction.compares),
        *(one.key if isinstance(one, Put) else one.interval.start for one in operations),
    ]


def _refuse_duplicates(branch: Sequence[Operation]) -> None:
    put: set[bytes] = set()
    for operation in branch:
        if isinstance(operation, Put):
            if operation.key in put:
                raise DuplicateKey(f"{operation.key[:60]!r} is put twice", field="key")
            put.add(operation.key)
    for operation in branch:
        if isinstance(operation, Delete) and any(key in operation.interval for key in put):
            raise DuplicateKey("a key is both put and deleted", field="key")


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
