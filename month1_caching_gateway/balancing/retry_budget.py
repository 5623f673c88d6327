"""Retry budget: second tries are a share of the first ones, however much fails. Pure.

Theory of operation
    A retry is more load at the moment when there is too much of it: with two retries a service
    that is half overloaded sees three times the requests, and never recovers. So retries are
    paid for. Every request earns `share` of a token, time earns `min_per_s` tokens a second (a
    quiet client may retry, too), a purse holds at most `burst`, and every retry takes one token.

Invariant (tests cite it)
    I1  Over any run of n requests and t seconds at most burst + share * n + min_per_s * t retries
        are granted; a refused retry takes nothing.

The same budget serves hedged requests, with a share of its own: a second copy is a retry that
did not wait for the failure. Source: the retry budgets of Finagle; differs in: earned
continuously, where theirs forgets each token after ten seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Budget:
    """share: retries per request in the long run. min_per_s: besides. burst: tokens, at most."""

    share: float = 0.2
    min_per_s: float = 3.0
    burst: float = 10.0

    def __post_init__(self) -> None:
        if self.share < 0 or self.min_per_s < 0 or self.burst < 0:
            raise InvalidInput(f"a retry budget is not negative: {self}", field="budget")


class Purse:
    """The tokens of one upstream; it begins full.

    `requests` is raised by one for every first try: that is all a request costs. What was earned
    is added up when somebody wants to spend, and capped then. That comes to the same, as nothing
    is taken out in between.
    """

    __slots__ = ("_budget", "_counted", "_counted_at_s", "_tokens", "requests")

    def __init__(self, budget: Budget, *, now_s: float) -> None:
        self._budget = budget
        self._tokens = budget.burst
        self._counted = 0
        self._counted_at_s = now_s
        self.requests = 0

    def spend(self, *, now_s: float) -> bool:
        """Ask for one retry (I1). A clock that steps back counts as standing still."""
        budget = self._budget
        passed_s = max(0.0, now_s - self._counted_at_s)
        earned = budget.share * (self.requests - self._counted) + budget.min_per_s * passed_s
        self._tokens = min(budget.burst, self._tokens + earned)
        self._counted, self._counted_at_s = self.requests, max(now_s, self._counted_at_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
