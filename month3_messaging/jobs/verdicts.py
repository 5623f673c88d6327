"""What becomes of a job that failed: again later, or parked. Pure.

    dependency away, no answer, busy     again, after a back-off with full jitter
    content or address that is no good   parked at once: no retry mends it
    a mistake of our own                 parked at once, with its stack
    tried `most_attempts` times          parked, whatever the cause

An attempt is counted before it begins, in the books. So one that ended without a word, because it
killed its worker, has been counted too, and a job that does so every time is parked in the end.
The broker alone would hand it out for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import ScalelabError
from scalelab.resilience.backoff import Backoff

_BACKOFF = Backoff(first_s=1.0, factor=2.0, cap_s=60.0)


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """most_attempts: begun attempts before a job is parked, >= 1. backoff: before each retry."""

    most_attempts: int = 6
    backoff: Backoff = _BACKOFF


@dataclass(frozen=True, slots=True)
class Again:
    """Try once more in `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Park:
    """Leave it to a person. code: stable, why."""

    code: str


def exhausted(attempt: int, policy: AttemptPolicy) -> bool:
    """Whether this attempt (1, 2, …), which has just been counted, is one too many."""
    return attempt > policy.most_attempts


def judge(
    error: Exception, attempt: int, policy: AttemptPolicy, random_unit: float
) -> Again | Park:
    """The verdict on attempt number `attempt`, which raised `error`."""
    if not isinstance(error, ScalelabError):
        return Park("unexpected")
    if not error.retryable or attempt >= policy.most_attempts:
        return Park(error.stable_code)
    return Again(policy.backoff.delay_s(attempt, random_unit))
