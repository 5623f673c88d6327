"""Asking again: bounded, told apart from failing, and never an old value."""

from __future__ import annotations

from random import Random

import pytest

from month2_databases.consistency import NotYetVisible, read_until
from scalelab.errors import InvalidInput, Unavailable
from scalelab.resilience.backoff import Backoff
from scalelab.resilience.retry import RetryPolicy

POLICY = RetryPolicy(attempts=4, backoff=Backoff(first_s=1.0, cap_s=8.0))


class Replicas:
    """Answers in turn; an exception among them is raised. slept: the waits between them."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = answers
        self.slept: list[float] = []

    async def read(self, attempt: int) -> int:
        answer = self._answers[attempt]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def until(self, newest: int) -> tuple[int, int]:
        found = await read_until(
            self.read,
            lambda version: version >= newest,
            policy=POLICY,
            random=Random(1),
            sleep=self.sleep,
        )
        return found.value, found.attempts


async def test_the_first_answer_that_is_new_enough_is_taken() -> None:
    """Two old ones are passed over, and both waits lie below their ceilings."""
    replicas = Replicas(1, 1, 2, 3)
    assert await replicas.until(2) == (2, 3)
    assert len(replicas.slept) == 2
    assert all(
        0 <= wait <= ceiling for wait, ceiling in zip(replicas.slept, (1.0, 2.0), strict=True)
    )


async def test_only_old_answers_end_in_an_error_that_says_so() -> None:
    """An old value is never given out."""
    with pytest.raises(NotYetVisible):
        await Replicas(1, 1, 1, 1).until(2)


async def test_a_replica_that_is_away_costs_an_attempt() -> None:
    """The next one is asked; if all are away, that is what the caller learns."""
    away = Unavailable("away")
    assert await Replicas(away, 2, 2, 2).until(2) == (2, 2)
    with pytest.raises(Unavailable) as caught:
        await Replicas(away, away, away, away).until(2)
    assert not isinstance(caught.value, NotYetVisible)


async def test_an_error_that_no_retry_helps_is_not_retried() -> None:
    """A bad query stays one."""
    replicas = Replicas(InvalidInput("bad"), 2, 2, 2)
    with pytest.raises(InvalidInput):
        await replicas.until(2)
    assert replicas.slept == []
