"""Read until one's own write is visible: ask again, elsewhere and later, but not for ever.

For stores that promise nothing but "eventually". The caller knows what it wrote and says how to
recognise it; attempts and waits are bounded, and running out of them is an error that says so,
never an old value. It costs the writer patience and everybody else nothing, where a higher level
would make every reader pay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from scalelab.errors import Unavailable
from scalelab.resilience.retry import RetryPolicy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """value: recognised as new enough. attempts: reads it took."""

    value: T
    attempts: int


class NotYetVisible(Unavailable):
    """All attempts were shown the past. The write is not lost for that; ask again later."""

    code = "not_yet_visible"


async def read_until(
    read: Callable[[int], Awaitable[T]],
    is_new_enough: Callable[[T], bool],
    *,
    policy: RetryPolicy,
    random: Random,
    sleep: Callable[[float], Awaitable[None]],
) -> Found[T]:
    """Call `read` with the number of the attempt (0, 1, ...) until its answer is new enough.

    The number lets a reader go to another replica, or to a higher level at last. A read that is
    Unavailable counts as an attempt. Raises NotYetVisible, or the error of the last attempt.
    """
    failed: Unavailable | None = None
    for attempt in range(policy.attempts):
        if attempt:
            await sleep(policy.backoff.delay_s(attempt, random.random()))
        try:
            value = await read(attempt)
        except Unavailable as error:
            failed = error
            continue
        failed = None
        if is_new_enough(value):
            return Found(value, attempt + 1)
    raise failed or NotYetVisible(f"not visible after {policy.attempts} reads")
