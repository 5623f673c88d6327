"""What a command must look like before it may enter the log.

Sizes are checked here, by the node that takes the command, and never again when it is applied:
a limit that a later version changes must not make replicas disagree about the past.
"""

from __future__ import annotations

from collections.abc import Iterable

from month5_kvstore.store.commands import (
    Command,
    Compact,
    Compare,
    Delete,
    Grant,
    OpenSession,
    Operation,
    Put,
    Range,
    SetQuota,
    Step,
    Target,
    Transaction,
)
from month5_kvstore.store.values import Interval
from scalelab.errors import InvalidInput, TooLarge

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 1 << 20
OPERATIONS_MAX = 128
NESTING_MAX = 4
"""Transactions inside one another; what is nested deeper cannot be read back from the log."""

LEASE_MAX = (1 << 63) - 1
TTL_MS_MAX = 10 * 365 * 86_400_000


def check(command: Command) -> None:
    """Raises InvalidInput or TooLarge, each with the field that is wrong."""
    match command:
        case Put() | Delete():
            _check_operation(command)
        case Transaction():
            _check_transaction(command)
        case Grant(ttl_ms, lease):
            _check_ttl(ttl_ms)
            _check_range("id", lease, 0, LEASE_MAX)
        case OpenSession(ttl_ms):
            _check_ttl(ttl_ms)
        case Compact(revision):
            _check_range("revision", revision, 1, 1 << 62)
        case SetQuota(size):
            _check_range("bytes", size, 1, 1 << 50)
        case _:
            pass


def check_range(query: Range) -> None:
    """As `check`, for a read."""
    _check_interval(query.interval)
    _check_range("revision", query.revision, 0, 1 << 62)
    _check_range("limit", query.limit, 0, 1 << 31)


def _check_transaction(transaction: Transaction) -> None:
    count = _count(transaction, 0)
    if count > OPERATIONS_MAX:
        raise TooLarge(f"{count} conditions and operations are over {OPERATIONS_MAX}")
    _check_steps(transaction)


def _count(transaction: Transaction, depth: int) -> int:
    """Conditions and operations, those inside too. Raises TooLarge."""
    if depth > NESTING_MAX:
        raise TooLarge(f"transactions stand more than {NESTING_MAX} deep in each other")
    steps: tuple[Step, ...] = (*transaction.then, *transaction.otherwise)
    inside = sum(_count(one, depth + 1) for one in steps if isinstance(one, Transaction))
    return len(transaction.compares) + len(steps) + inside


def _check_steps(transaction: Transaction) -> None:
    _check_compares(transaction.compares)
    for step in (*transaction.then, *transaction.otherwise):
        if isinstance(step, Transaction):
            _check_steps(step)
        else:
            _check_operation(step)


def _check_compares(compares: Iterable[Compare]) -> None:
    for compare in compares:
        _check_key("key", compare.key)
        _check_interval(Interval(compare.key, compare.end))
        if isinstance(compare.operand, bytes) != (compare.target == Target.VALUE):
            raise InvalidInput(
                "a value is compared to bytes, all else to a number", field="operand"
            )


def _check_operation(operation: Operation) -> None:
    match operation:
        case Put():
            _check_key("key", operation.key)
            if len(operation.value) > VALUE_BYTES_MAX:
                size = len(operation.value)
                raise TooLarge(
                    f"a value of {size} bytes is over {VALUE_BYTES_MAX}", code="value_too_large"
                )
            if operation.keep_value and operation.value:
                raise InvalidInput("give a value or keep the old one, not both", field="value")
            _check_range("lease", operation.lease, 0, LEASE_MAX)
        case Delete():
            _check_interval(operation.interval)
        case Range():
            check_range(operation)


def _check_interval(interval: Interval) -> None:
    if interval.end is None:
        _check_key("key", interval.start)
    elif max(len(interval.start), len(interval.end)) > KEY_BYTES_MAX:
        raise TooLarge(f"a key is over {KEY_BYTES_MAX} bytes", code="key_too_large")


def _check_key(field: str, key: bytes) -> None:
    if not key:
        raise InvalidInput("a key has at least one byte", field=field, code="empty_key")
    if len(key) > KEY_BYTES_MAX:
        raise TooLarge(f"a key of {len(key)} bytes is over {KEY_BYTES_MAX}", code="key_too_large")


def _check_ttl(ttl_ms: int) -> None:
    _check_range("ttl_ms", ttl_ms, 1, TTL_MS_MAX)


def _check_range(field: str, number: int, lowest: int, highest: int) -> None:
    if not lowest <= number <= highest:
        raise InvalidInput(f"{field} {number} is not in {lowest}..{highest}", field=field)
