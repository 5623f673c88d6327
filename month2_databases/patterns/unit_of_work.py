"""A unit of work that can be run again: statements out, rows in, nothing else. Pure.

Theory of operation
    A server that rolls a transaction back to keep another correct (40001), or to end a deadlock
    (40P01), has changed nothing: the same transaction is right again, whole, from its first read,
    because what it read is no longer true. So the work is not a block of code that runs once. It
    is a generator that yields statements and is sent their rows; each try asks for a new one:

        def pay() -> Steps[int]:
            held = yield Statement("SELECT cents FROM purse WHERE id = %s", (7,))
            yield Statement("UPDATE purse SET cents = %s WHERE id = %s", (held.rows[0][0] - 5, 7))
            return held.rows[0][0] - 5

    A generator cannot await: it sends no mail, calls no service, and writes to no other database,
    which running it again would do twice. What must happen outside is written down as a row (an
    outbox), or done by the caller when the run has returned.

Invariants (tests cite them)
    U1  Each try begins a generator that nobody has begun; an old one is refused.
    U2  A statement cannot end the transaction it stands in.
    U3  Only 40001 and 40P01 are run again. A lost COMMIT may have taken effect: never.

Absent on purpose: savepoints, and catching a statement's error inside the work: PostgreSQL does
nothing more in a transaction that has failed. What a rollback does not take back is not seen here:
numbers of a sequence, session advisory locks, COPY TO PROGRAM.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.errors import InvalidInput, ScalelabError

T = TypeVar("T")

_ENDS_A_TRANSACTION = re.compile(
    r"\A(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/|;)*"
    r"(?:abort|begin|commit|end|prepare\s+transaction|release|rollback|savepoint"
    r"|start\s+transaction)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with %s for its values. Raises InvalidInput (transaction_control) (U2)."""

    text: LiteralString
    values: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if _ENDS_A_TRANSACTION.match(self.text):
            raise InvalidInput(
                f"a unit of work does not begin or end transactions: {self.text!r}",
                field="statement",
                code="transaction_control",
            )


@dataclass(frozen=True, slots=True)
class Answer:
    """rows: none for a statement that returns none. count: rows it returned or changed."""

    rows: tuple[tuple[Any, ...], ...]
    count: int


Steps = Generator[Statement, Answer, T]
Work = Callable[[], Steps[T]]
"""Called once a try. It may close over values; it must not change what it closes over."""


def begin(work: Work[T]) -> Steps[T]:
    """A new generator of the work. Raises InvalidInput (not_rerunnable) for anything else (U1)."""
    steps: object = work()
    if inspect.iscoroutine(steps):
        steps.close()
    if not inspect.isgenerator(steps):
        raise _not_rerunnable(f"it gave {type(steps).__name__}: it could reach outside, or await")
    if inspect.getgeneratorstate(steps) != inspect.GEN_CREATED:
        raise _not_rerunnable("it gave a generator that has begun: a new one is wanted each time")
    return steps


def check(step: object) -> Statement:
    """What was yielded, if it is a statement; else InvalidInput (not_rerunnable)."""
    if not isinstance(step, Statement):
        raise _not_rerunnable(f"it yielded {type(step).__name__} and not a Statement")
    return step


def may_run_again(error: ScalelabError) -> bool:
    """Whether the server rolled back only to keep others correct (U3)."""
    return (
        isinstance(error, SerializationFailure) and error.stable_code == SerializationFailure.code
    )


def _not_rerunnable(why: str) -> InvalidInput:
    return InvalidInput(
        f"this work cannot be run again: {why}", field="work", code="not_rerunnable"
    )
