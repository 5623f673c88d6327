"""When a second request is sent: after the time that most answers need, and not too often. Pure.

Theory of operation
    The delay is a quantile of the latest waits. Sent at once, hedges would double the load; sent
    after the 95th percentile they add about a twentieth. When everything is slow the percentile
    lags behind and every request would be doubled, just when there is no room for it: so a budget
    gives each first request a share of a hedge, and nothing is lent.

    A request that lost to its hedge was cancelled: nobody knows how long it would have taken, only
    that it was longer than this. It is counted with this lower bound. Leaving it out would keep
    the quick ones alone, and the delay would shrink until everything is hedged.

Source: Dean and Barroso 2013 (the percentile, the small share); the lower bound is the usual
treatment of censored observations.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from scalelab.errors import InvalidInput
from scalelab.resilience import BudgetPolicy
from scalelab.resilience.retry import RetryBudget


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """quantile: of the waits, after which a hedge is sent, 0..1. share: hedges earned a request.

    burst: hedges that may be saved up, >= 1. window: waits that are remembered. least: as long as
    fewer are known, `first_delay_s` is the delay.
    """

    quantile: float = 0.95
    share: float = 0.1
    burst: float = 10.0
    window: int = 1000
    least: int = 20
    first_delay_s: float = 0.1

    def __post_init__(self) -> None:
        """Raises InvalidInput naming the field."""
        if not 0 < self.quantile < 1:
            raise InvalidInput("a quantile lies between 0 and 1", field="quantile")
        if not 0 <= self.share <= 1:
            raise InvalidInput("a share lies between 0 and 1", field="share")
        if self.burst < 1:
            raise InvalidInput("less than one hedge cannot be saved up", field="burst")
        if not 1 <= self.least <= self.window:
            raise InvalidInput("the window holds at least what is needed", field="least")


class Hedging:
    """Delay and budget of one kind of question. Not for several threads."""

    def __init__(self, policy: HedgePolicy = HedgePolicy()) -> None:
        self.policy = policy
        self._waits_s: deque[float] = deque(maxlen=policy.window)
        self._budget = RetryBudget(BudgetPolicy(ratio=policy.share, reserve=policy.burst))

    def begun(self) -> None:
        """A first request is sent: it earns its share."""
        self._budget.on_call()

    def waited(self, wait_s: float) -> None:
        """A request ended after so many seconds, or was still without an answer then."""
        self._waits_s.append(wait_s)

    @property
    def delay_s(self) -> float:
        """Seconds after which a second request is worth it. Cost: O(n log n) of the window."""
        if len(self._waits_s) < self.policy.least:
            return self.policy.first_delay_s
        ordered = sorted(self._waits_s)
        return ordered[min(len(ordered) - 1, math.floor(self.policy.quantile * len(ordered)))]

    def take(self) -> bool:
        """Spend one hedge; False if none is saved up."""
        return self._budget.grants_retry()
