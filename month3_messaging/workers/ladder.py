"""The ladder: how long a failed event waits before each next try. Pure.

Theory of operation
    Exponential back-off with full jitter (scalelab/resilience/backoff.py), cut into rungs: the
    n-th retry waits a time drawn from 0 to the n-th rung's longest wait. A rung is a delay topic,
    or a wait in place. Rungs with the same longest wait share a topic.

Invariants (tests cite them)
    F1  0 <= wait_s(...) <= longest wait of the rung <= the back-off's cap.
    F2  The longest waits never shrink from rung to rung.
    F3  A ladder has tries - 1 rungs, and tries is at most TRIES_MAX: an event that always fails
        is parked within TRIES_MAX attempts.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput
from scalelab.resilience.backoff import Backoff

TRIES_MAX = 5
"""Attempts after which an event has been given every chance."""


@dataclass(frozen=True, slots=True)
class RetryStep:
    """A rung of the ladder: the topic's suffix and the longest wait before the next attempt."""

    suffix: str
    delay_s: float


def ladder_of(backoff: Backoff, *, tries: int) -> tuple[RetryStep, ...]:
    """The rungs in order, one fewer than `tries` (attempts in all).

    Raises InvalidInput if tries is not 1 to TRIES_MAX.
    """
    if not 1 <= tries <= TRIES_MAX:
        raise InvalidInput(f"{tries} tries are not 1 to {TRIES_MAX}", field="tries")
    waits = (backoff.ceiling_s(retry) for retry in range(1, tries))
    return tuple(RetryStep(suffix_of(longest_s), longest_s) for longest_s in waits)


def suffix_of(longest_s: float) -> str:
    """A wait as a topic's name may say it: 250ms, 5s, 1m; no two waits of whole ms are alike."""
    milliseconds = max(1, round(longest_s * 1000))
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds // 1000
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def wait_s(step: RetryStep, random_unit: float) -> float:
    """Seconds to wait on a rung; random_unit: uniform in 0..1."""
    return step.delay_s * random_unit


DEFAULT_LADDER = ladder_of(Backoff(first_s=5.0, factor=12.0, cap_s=60.0), tries=3)
