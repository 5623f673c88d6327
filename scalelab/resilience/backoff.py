"""How long to wait before a retry, and whether a retry may be afforded at all. Pure.

Theory of operation
    Full jitter: before retry n wait a random time in 0..min(cap, first * factor**(n-1)). Random
    over the whole range, because callers that failed together must not come back together.

    Budget: retries multiply load exactly when a dependency has too much of it. Every call pays
    `ratio` of a token into a purse of at most `reserve`, every retry takes a whole token out. In
    the long run at most `ratio` retries follow each call, whatever happens; the reserve lets a
    quiet client retry at all.

Invariants (tests cite them)
    I1  0 <= delay <= cap.
    I2  Over any run of n calls at most reserve + ratio * n retries are granted.
    I3  A refused retry takes nothing out.

Sources: Brooker 2015, "Exponential backoff and jitter"; the retry budgets of Finagle.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """first_s: ceiling before the first retry. factor: growth per retry, >= 1. cap_s: of any."""

    first_s: float = 0.05
    factor: float = 2.0
    cap_s: float = 2.0

    def __post_init__(self) -> None:
        if self.first_s < 0 or self.factor < 1 or self.cap_s < self.first_s:
            raise ValueError(f"a backoff needs 0 <= first_s <= cap_s and factor >= 1: {self}")

    def ceiling_s(self, retry: int) -> float:
        """The longest wait before retry number `retry` (1, 2, ...)."""
        # 2.0**1024 overflows; no cap is anywhere near 2.0**64 steps.
        return min(self.cap_s, self.first_s * self.factor ** min(retry - 1, 64))

    def delay_s(self, retry: int, random_unit: float) -> float:
        """The wait before retry number `retry`; random_unit: uniform in 0..1."""
        return self.ceiling_s(retry) * random_unit


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """ratio: retries per call in the long run. reserve: tokens a purse holds, and begins with."""

    ratio: float = 0.2
    reserve: float = 10.0

    def __post_init__(self) -> None:
        if self.ratio < 0 or self.reserve < 0:
            raise ValueError(f"a retry budget is not negative: {self}")


@dataclass(frozen=True, slots=True)
class Purse:
    """Tokens a client may still spend on retries."""

    tokens: float


def full_purse(policy: BudgetPolicy) -> Purse:
    """The purse of a client that has done nothing yet."""
    return Purse(policy.reserve)


def earn(purse: Purse, policy: BudgetPolicy) -> Purse:
    """The purse after one call (not a retry)."""
    return Purse(min(policy.reserve, purse.tokens + policy.ratio))


def spend(purse: Purse) -> tuple[Purse, bool]:
    """Ask for one retry: the purse afterwards, and whether it was granted."""
    if purse.tokens < 1.0:
        return purse, False
    return Purse(purse.tokens - 1.0), True
