"""Login throttling: guessing gets slow, an account cannot be locked from outside.

Theory of operation
    An attempt costs one point, paid before the password is looked at, so that parallel guesses
    cannot slip past; a success takes it back. Points are counted for the pair (account, address)
    and for the address alone, each drained at a steady rate (limit points per window). The pair's
    limit is small: guessing one account from one place. The address's limit is larger: guessing
    many accounts from one place. Nothing is counted for the account alone, so an attacker
    elsewhere cannot shut its owner out.

Invariants (tests cite them)
    T1  In any window of t seconds at most limit * (1 + t / window_s) failures pass per key.
    T2  Memory is bounded: at most `capacity` keys; the longest unused is forgotten first.
    T3  A success leaves the counts as they were before it.

Absent on purpose: sharing the counts between processes (each has its own share), and blocking an
account that is attacked from many addresses.
Source: the leaky bucket as a meter, ITU-T I.371 (GCRA); differs in: success refunds its cell.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from scalelab.errors import RateLimited


@dataclass(frozen=True, slots=True)
class Limits:
    """Failures allowed at once, drained over window_s seconds. capacity: keys remembered."""

    per_account_and_address: int = 5
    per_address: int = 100
    window_s: float = 60.0
    capacity: int = 20_000


@dataclass(frozen=True, slots=True)
class _Count:
    points: float
    at_s: float


class LoginThrottle:
    """Counts attempts of one process. Synchronous and without a clock: `now_s` is monotonic."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counts: OrderedDict[tuple[str, ...], _Count] = OrderedDict()

    @property
    def remembered(self) -> int:
        """Keys held now, at most the capacity."""
        return len(self._counts)

    def charge(self, account: str, address: str, now_s: float) -> None:
        """Pay for an attempt, or raise RateLimited (code `login_throttled`) and count nothing.

        retry_after_s is the time until one more attempt is allowed.
        """
        keys = self._keys(account, address)
        wait_s = max(self._wait_s(key, limit, now_s) for key, limit in keys)
        if wait_s > 0:
            raise RateLimited(
                "too many failed logins; wait before the next",
                retry_after_s=wait_s,
                code="login_throttled",
            )
        for key, limit in keys:
            self._add(key, limit, 1.0, now_s)

    def refund(self, account: str, address: str, now_s: float) -> None:
        """Take back one charge: the attempt was right (T3), or was never judged."""
        for key, limit in self._keys(account, address):
            self._add(key, limit, -1.0, now_s)

    def _keys(self, account: str, address: str) -> list[tuple[tuple[str, ...], int]]:
        return [
            ((account, address), self._limits.per_account_and_address),
            ((address,), self._limits.per_address),
        ]

    def _points(self, key: tuple[str, ...], limit: int, now_s: float) -> float:
        count = self._counts.get(key)
        if count is None:
            return 0.0
        drained = max(0.0, now_s - count.at_s) * limit / self._limits.window_s
        return max(0.0, count.points - drained)

    def _wait_s(self, key: tuple[str, ...], limit: int, now_s: float) -> float:
        over = self._points(key, limit, now_s) + 1.0 - limit
        return max(0.0, over) * self._limits.window_s / limit

    def _add(self, key: tuple[str, ...], limit: int, points: float, now_s: float) -> None:
        left = max(0.0, self._points(key, limit, now_s) + points)
        self._counts.pop(key, None)
        if left > 0:
            self._counts[key] = _Count(left, now_s)
        while len(self._counts) > self._limits.capacity:
            self._counts.popitem(last=False)
