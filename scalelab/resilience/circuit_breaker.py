"""Circuit breaker: stop calling what keeps failing, ask carefully, go on when it answers. Pure.

Theory of operation
    CLOSED     calls pass; outcomes are counted in a rolling window of `window_s`, kept as a ring
               of `BUCKETS` time buckets. At `min_calls` outcomes or more, of which `failure_ratio`
               or more failed, it opens.
    OPEN       calls are refused until `open_s` have passed, then the next call half-opens it.
    HALF_OPEN  at most `probes` calls are out at a time. `probes` successes in a row close it with
               an empty window; one failure opens it again.

    Each admission carries the *generation* it belongs to; every change of phase starts a new one.
    An answer of an older generation is ignored: a slow failure from before the breaker opened
    says nothing about the dependency now.

Invariants (tests cite them)
    I1  While open, nothing is admitted before `open_s` have passed.
    I2  While half-open, never more than `probes` admissions are without an answer.
    I3  Every admission is answered by SUCCESS, FAILURE or NEUTRAL; NEUTRAL gives the place back.
    I4  An answer of an older generation changes nothing.
    I5  With fewer than `min_calls` outcomes in the window it does not open.

Source: Nygard, "Release It!", 2007; differs in: a rolling ratio in place of consecutive failures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

BUCKETS = 10
"""Granularity of the rolling window: an outcome is forgotten after window_s to 1.1 window_s."""


class Phase(Enum):
    """Where a breaker stands."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Outcome(Enum):
    """What a call says of the dependency. NEUTRAL: nothing (it was cancelled on our side)."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open, for how long (seconds), and how many probes it takes to close again."""

    failure_ratio: float = 0.5
    min_calls: int = 10
    window_s: float = 10.0
    open_s: float = 2.0
    probes: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.failure_ratio <= 1 or self.min_calls < 1 or self.probes < 1:
            raise ValueError(f"a breaker needs a ratio in (0, 1], calls and probes >= 1: {self}")
        if self.window_s <= 0 or self.open_s <= 0:
            raise ValueError(f"a breaker's times are positive: {self}")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Outcomes of one slice of time. number: index of the slice since the clock's start."""

    number: int
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Breaker:
    """The whole state of one breaker. A new one is closed and has seen nothing."""

    phase: Phase = Phase.CLOSED
    generation: int = 0
    window: tuple[Bucket, ...] = ()
    opened_at_s: float = 0.0
    probes_out: int = 0
    probes_succeeded: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call may be made; if not, after how many seconds it is worth asking again."""

    admitted: bool
    generation: int
    retry_after_s: float = 0.0


def ask(breaker: Breaker, policy: BreakerPolicy, *, now_s: float) -> tuple[Breaker, Admission]:
    """Ask to make one call. Who is admitted must `answer` with the admission's generation."""
    if breaker.phase is Phase.CLOSED:
        return breaker, Admission(admitted=True, generation=breaker.generation)
    if breaker.phase is Phase.OPEN:
        wait_s = breaker.opened_at_s + policy.open_s - now_s
        if wait_s > 0:
            refusal = Admission(False, breaker.generation, wait_s)
            return breaker, refusal
        breaker = Breaker(Phase.HALF_OPEN, breaker.generation + 1)
    if breaker.probes_out + breaker.probes_succeeded >= policy.probes:
        return breaker, Admission(False, breaker.generation, policy.open_s)
    probing = replace(breaker, probes_out=breaker.probes_out + 1)
    return probing, Admission(True, probing.generation)


def answer(
    breaker: Breaker, policy: BreakerPolicy, generation: int, outcome: Outcome, *, now_s: float
) -> Breaker:
    """The breaker after an admitted call of `generation` ended with `outcome`."""
    if generation != breaker.generation:
        return breaker
    if breaker.phase is Phase.HALF_OPEN:
        return _answer_probe(breaker, policy, outcome, now_s)
    if outcome is Outcome.NEUTRAL:
        return breaker
    counted = replace(breaker, window=_count(breaker.window, policy, outcome, now_s))
    if outcome is Outcome.FAILURE and _is_failing(counted.window, policy):
        return _opened(breaker, now_s)
    return counted


def succeeded(breaker: Breaker, policy: BreakerPolicy, count: int, *, bucket: int) -> Breaker:
    """A closed breaker after `count` successes of its generation in the slice of time `bucket`.

    The same as that many SUCCESS answers; for drivers that count the common case by themselves.
    """
    return replace(breaker, window=_add(breaker.window, bucket, succeeded=count))


def bucket_of(policy: BreakerPolicy, now_s: float) -> int:
    """The number of the slice of time that `now_s` lies in."""
    return int(now_s / (policy.window_s / BUCKETS))


def _answer_probe(
    breaker: Breaker, policy: BreakerPolicy, outcome: Outcome, now_s: float
) -> Breaker:
    if outcome is Outcome.FAILURE:
        return _opened(breaker, now_s)
    succeeded = breaker.probes_succeeded + (outcome is Outcome.SUCCESS)
    if succeeded >= policy.probes:
        return Breaker(Phase.CLOSED, breaker.generation + 1)
    return replace(breaker, probes_out=breaker.probes_out - 1, probes_succeeded=succeeded)


def _opened(breaker: Breaker, now_s: float) -> Breaker:
    return Breaker(Phase.OPEN, breaker.generation + 1, opened_at_s=now_s)


def _count(
    window: tuple[Bucket, ...], policy: BreakerPolicy, outcome: Outcome, now_s: float
) -> tuple[Bucket, ...]:
    """The window with one outcome more and without the buckets that are too old."""
    number = bucket_of(policy, now_s)
    if outcome is Outcome.SUCCESS:
        return _add(window, number, succeeded=1)
    return _add(window, number, failed=1)


def _add(
    window: tuple[Bucket, ...], number: int, *, succeeded: int = 0, failed: int = 0
) -> tuple[Bucket, ...]:
    recent = tuple(b for b in window if b.number > number - BUCKETS)
    last = recent[-1] if recent and recent[-1].number >= number else Bucket(number)
    updated = Bucket(last.number, last.succeeded + succeeded, last.failed + failed)
    kept = recent[:-1] if recent and recent[-1].number == last.number else recent
    return (*kept, updated)


def _is_failing(window: tuple[Bucket, ...], policy: BreakerPolicy) -> bool:
    failed = sum(bucket.failed for bucket in window)
    calls = failed + sum(bucket.succeeded for bucket in window)
    return calls >= policy.min_calls and failed >= policy.failure_ratio * calls
