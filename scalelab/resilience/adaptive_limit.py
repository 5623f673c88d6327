"""Adaptive concurrency: how many calls at once a dependency can carry, learnt from latency. Pure.

Theory of operation
    A dependency that works on c calls at a time answers in its base latency while at most c are in
    flight; more only wait inside of it, and latency grows with them. So the limit follows the
    ratio of the two. Latencies are averaged over windows; at the end of each

        gradient = tolerance * base / average, kept in 0.5..1
        target   = limit * gradient + sqrt(limit)
        limit    = limit + smoothing * (target - limit)

    The root is room to grow: without it a limit that is too small would never be found out. A
    window with a dropped call (a time-out, a 503) shrinks the limit by a tenth instead. A window
    that did not use half of the limit says nothing about it and changes nothing.

    base is the smallest latency seen. It must be measured again now and then, or a dependency that
    became slower for good would be starved; and not under load, or the queue that the limit allows
    would be taken for the base, and the limit would ratchet up. So every `probe_every` windows the
    limit is halved for one window, whose smallest latency is the new base.

Invariants (tests cite them)
    A1  minimum <= limit <= maximum.
    A2  While a window's average is at most tolerance * base, a used limit does not shrink.
    A3  A window that used less than half of the limit changes nothing.

Sources: the gradient limit of Netflix's concurrency-limits; differs in: one base from probing, as
PROBE_RTT in Cardwell et al. 2016, "BBR: congestion-based congestion control".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_DROP_FACTOR = 0.9
_STEEPEST = 0.5
_PROBE = 4


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """initial, minimum, maximum: calls at once. tolerance: latency over base that is still good.

    A window ends after `window_s` seconds and `window_calls` calls, whichever comes later.
    """

    initial: int = 20
    minimum: int = 2
    maximum: int = 1000
    tolerance: float = 1.5
    smoothing: float = 0.2
    window_s: float = 0.1
    window_calls: int = 10
    probe_every: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.initial <= self.maximum:
            raise ValueError(f"a limit needs 1 <= minimum <= initial <= maximum: {self}")
        if self.tolerance < 1 or not 0 < self.smoothing <= 1 or self.probe_every < 2:
            raise ValueError(f"tolerance >= 1, smoothing in (0, 1], probe_every >= 2: {self}")
        if self.window_s <= 0 or self.window_calls < 1:
            raise ValueError(f"a window has a length: {self}")


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen since it began. least_s, sum_s: of latencies. most: calls at once."""

    began_s: float
    calls: int = 0
    sum_s: float = 0.0
    least_s: float = float("inf")
    most: int = 0
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """State of one dependency's limit. calls: the limit. probing: a quarter of it now."""

    calls: float
    window: Window
    base_s: float = float("inf")
    windows: int = 0
    probing: bool = False

    def allows(self, in_flight: int) -> bool:
        """Whether one call more may begin while so many are in flight."""
        return in_flight < (max(1.0, self.calls / _PROBE) if self.probing else self.calls)


def new_limit(policy: LimitPolicy, *, now_s: float) -> Limit:
    """The limit of a dependency nobody has called yet."""
    return Limit(float(policy.initial), Window(now_s))


def sample(
    limit: Limit,
    policy: LimitPolicy,
    *,
    latency_s: float | None,
    in_flight: int,
    now_s: float,
) -> Limit:
    """The limit after a call. latency_s: None if it was dropped. in_flight: with this call."""
    seen = limit.window
    window = Window(
        seen.began_s,
        seen.calls + 1,
        seen.sum_s + (latency_s or 0.0),
        seen.least_s if latency_s is None else min(seen.least_s, latency_s),
        max(seen.most, in_flight),
        seen.dropped or latency_s is None,
    )
    if window.calls < policy.window_calls or now_s - window.began_s < policy.window_s:
        return replace(limit, window=window)
    return _next_window(limit, window, policy, now_s)


def _next_window(limit: Limit, window: Window, policy: LimitPolicy, now_s: float) -> Limit:
    if limit.probing:
        base_s = window.least_s if window.least_s != float("inf") else limit.base_s
        return Limit(limit.calls, Window(now_s), base_s)
    base_s = min(limit.base_s, window.least_s)
    calls = _moved(limit.calls, window, policy, base_s)
    windows = limit.windows + 1
    return Limit(calls, Window(now_s), base_s, windows, probing=windows >= policy.probe_every)


def _moved(calls: float, window: Window, policy: LimitPolicy, base_s: float) -> float:
    if window.dropped:
        return max(float(policy.minimum), calls * _DROP_FACTOR)
    if window.most < calls / 2:
        return calls
    average_s = window.sum_s / window.calls
    gradient = 1.0
    if average_s > 0:
        gradient = max(_STEEPEST, min(1.0, policy.tolerance * base_s / average_s))
    target = calls * gradient + calls**0.5
    moved = calls + policy.smoothing * (target - calls)
    return min(float(policy.maximum), max(float(policy.minimum), moved))
