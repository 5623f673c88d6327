"""What may be run again, and what is refused before it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, LiteralString, cast

import pytest

from month2_databases.patterns.unit_of_work import (
    Answer,
    Statement,
    Steps,
    Work,
    begin,
    check,
    may_run_again,
)
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.errors import Conflict, InvalidInput, OutcomeUnknown, ScalelabError, Unavailable


def _counting() -> Steps[int]:
    answer = yield Statement("SELECT 1")
    return answer.count


def test_each_try_begins_a_new_generator() -> None:
    """U1: two beginnings do not share their progress."""
    first, second = begin(_counting), begin(_counting)
    assert next(first) == next(second) == Statement("SELECT 1")
    with pytest.raises(StopIteration) as end:
        first.send(Answer((), 7))
    assert end.value.value == 7


def test_a_generator_that_has_begun_is_refused() -> None:
    """U1: it would go on in the middle."""
    steps = _counting()
    next(steps)
    with pytest.raises(InvalidInput) as refusal:
        begin(lambda: steps)
    assert refusal.value.stable_code == "not_rerunnable"


def test_a_generator_that_has_ended_is_refused() -> None:
    """U1: a second try would do nothing and seem to succeed."""
    steps = _counting()
    steps.close()
    with pytest.raises(InvalidInput):
        begin(lambda: steps)


async def _coroutine() -> int:
    raise AssertionError("nobody awaits this")


async def _async_steps() -> AsyncGenerator[Statement]:
    raise AssertionError("nobody iterates this")
    yield Statement("SELECT 1")


@pytest.mark.parametrize("work", [_coroutine, _async_steps, lambda: [Statement("SELECT 1")]])
def test_whatever_could_reach_outside_is_refused(work: Any) -> None:
    """A coroutine can await a mail; running it again sends a second one."""
    with pytest.raises(InvalidInput) as refusal:
        begin(cast("Work[int]", work))
    assert refusal.value.stable_code == "not_rerunnable"


def test_only_statements_may_be_yielded() -> None:
    """Not even the text of one."""
    with pytest.raises(InvalidInput):
        check("SELECT 1")


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT",
        "  rollback ",
        "BEGIN",
        "end",
        "ABORT",
        "savepoint a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO a",
        "start  transaction",
        "PREPARE TRANSACTION 'x'",
        "-- a remark\nCOMMIT",
        "/* and\nanother */ COMMIT",
        ";COMMIT",
    ],
)
def test_a_statement_does_not_end_its_transaction(text: LiteralString) -> None:
    """U2: whatever stands before the word."""
    with pytest.raises(InvalidInput) as refusal:
        Statement(text)
    assert refusal.value.stable_code == "transaction_control"


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "PREPARE plan AS SELECT 1", "UPDATE commit SET a = 1", "-- COMMIT\nSELECT 1"],
)
def test_other_statements_may_hold_those_words(text: LiteralString) -> None:
    """U2: only the first word decides."""
    assert Statement(text).text == text


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (SerializationFailure("rolled back"), True),
        (SerializationFailure("waited too long", code="lock_timeout"), False),
        (Conflict("a constraint"), False),
        (OutcomeUnknown("lost in COMMIT"), False),
        (Unavailable("away"), False),
    ],
)
def test_only_what_the_server_rolled_back_for_others_is_run_again(
    error: ScalelabError, *, again: bool
) -> None:
    """U3."""
    assert may_run_again(error) is again
