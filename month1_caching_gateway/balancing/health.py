"""Active health: ask each endpoint on a schedule, and believe a change only when it repeats. Pure.

Theory of operation
    An endpoint is up or down. `fall` failed checks in a row take it down, `rise` good ones bring
    it back: a single lost packet must not take a server away, and one lucky answer must not send
    it the full load. The first check of all decides at once, because nothing is known before it.
    Checks are spread: each waits `interval_s` give or take `jitter` of it, so that many gateways
    that started together do not knock at the same instant for ever.

Invariants (tests cite them)
    I1  Between two changes of state lie at least `fall` (to down) or `rise` (to up) checks in a
        row that say so, the very first check apart.
    I2  Two checks of one endpoint are between (1 - jitter) and (1 + jitter) intervals apart.

Absent on purpose: what a check is (see the driver, gateway/health_checks.py), and what the
requests themselves tell (outlier.py): the first notices a server without load, the second one
that lies to its checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """GET `path` every `interval_s`; `statuses` within `timeout_s` count as good.

    jitter: share of the interval, 0 <= jitter < 1. fall, rise: checks in a row, >= 1.
    """

    path: str = "/health/ready"
    interval_s: float = 2.0
    jitter: float = 0.2
    timeout_s: float = 1.0
    fall: int = 2
    rise: int = 2
    statuses: frozenset[int] = frozenset({200})

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or any(mark in self.path for mark in " \r\n\t"):
            raise InvalidInput(f"{self.path!r} is no path to check", field="health.path")
        if self.interval_s <= 0 or self.timeout_s <= 0 or not 0 <= self.jitter < 1:
            raise InvalidInput(
                "a health check's times are positive, its jitter 0..1", field="health"
            )
        if self.fall < 1 or self.rise < 1 or not self.statuses:
            raise InvalidInput("a health check needs fall, rise and statuses", field="health")


@dataclass(frozen=True, slots=True)
class Health:
    """State of one endpoint. against: checks in a row that contradict `up`. checked: at least once.

    A new one is up: until it was asked, an endpoint is taken at its word.
    """

    up: bool = True
    against: int = 0
    checked: bool = False


def observe(health: Health, policy: HealthPolicy, *, good: bool) -> Health:
    """The state after one more check. Cost: O(1)."""
    if not health.checked:
        return Health(good, checked=True)
    if good is health.up:
        return health if not health.against else Health(health.up, checked=True)
    against = health.against + 1
    if against >= (policy.fall if health.up else policy.rise):
        return Health(good, checked=True)
    return Health(health.up, against, checked=True)


def next_check_s(policy: HealthPolicy, random_unit: float) -> float:
    """Seconds until the next check (I2). random_unit: uniform in 0..1."""
    return policy.interval_s * (1 + policy.jitter * (2 * random_unit - 1))
