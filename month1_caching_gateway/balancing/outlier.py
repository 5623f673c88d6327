"""Passive health: an endpoint whose own answers are bad is sent away for a while. Pure.

Theory of operation
    Every request tells something of the endpoint that had it. Two signs eject one:
        in a row    `consecutive` failures without a success between them: it is broken;
        by share    of at least `min_calls` calls in the window `failure_share` or more failed:
                    it is flaky. The window is two halves, the present and the last, so that
                    counting a success is one addition; `tick` turns them.
    The first ejection lasts `base_ejection_s`, each further one twice as long, up to
    `max_ejection_s`. Who returns is on probation: the first failure sends it away again, the
    first success ends that. A quiet time as long as its last absence forgives one ejection.

    Evidence is a vote against one's peers. When all fail alike the cause is elsewhere, and the
    last servers standing would be crushed: never more than `max_ejected_share` of the endpoints
    are away at once, and a lone endpoint never is.

Invariants (tests cite them)
    I1  Ejected at any time: at most max_ejected_share * endpoints, rounded down.
    I2  An absence lasts between base_ejection_s and max_ejection_s, never shorter than the last
        one unless a forgiveness lies between.
    I3  A success between two failures restarts the count of failures in a row.

Absent on purpose: latency as evidence; a slow endpoint is the business of the picks that count
requests in flight. Where it differs from Envoy's outlier detection: probation, and one window
for the share instead of a comparison with the mean of all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from scalelab.errors import InvalidInput

_NEVER_S = float("-inf")
_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class OutlierPolicy:
    """When to eject and for how long. Times in seconds, shares 0..1."""

    consecutive: int = 5
    failure_share: float = 0.5
    min_calls: int = 20
    window_s: float = 10.0
    base_ejection_s: float = 5.0
    max_ejection_s: float = 60.0
    max_ejected_share: float = 0.5

    def __post_init__(self) -> None:
        if self.consecutive < 1 or self.min_calls < 1 or not 0 < self.failure_share <= 1:
            raise InvalidInput(
                "an outlier policy needs counts >= 1, a share in (0, 1]", field="outlier"
            )
        if self.window_s <= 0 or not 0 < self.base_ejection_s <= self.max_ejection_s:
            raise InvalidInput("an ejection's times are positive and base <= max", field="outlier")
        if not 0 <= self.max_ejected_share <= 1:
            raise InvalidInput("max_ejected_share is a share 0..1", field="outlier")

    def ejection_s(self, ejections: int) -> float:
        """How long absence number `ejections` (1, 2, …) lasts."""
        doublings = min(ejections - 1, _MAX_DOUBLINGS)
        return min(self.max_ejection_s, self.base_ejection_s * 2**doublings)

    def may_be_ejected(self, endpoints: int) -> int:
        """How many of so many endpoints may be away at once (I1)."""
        return int(self.max_ejected_share * endpoints + 1e-9) if endpoints > 1 else 0


class Track:
    """What one endpoint's requests told. Changed in place: it is written for every request.

    ejected_until_s: None while it is not ejected. ejections: absences not yet forgiven.
    """

    __slots__ = (
        "_calls",
        "_calls_before",
        "_failed",
        "_failed_before",
        "_half_began_s",
        "_quiet_since_s",
        "ejected_until_s",
        "ejections",
        "failures_in_a_row",
        "on_probation",
    )

    def __init__(self) -> None:
        self.failures_in_a_row = 0
        self.on_probation = False
        self.ejections = 0
        self.ejected_until_s: float | None = None
        self._calls = self._failed = 0
        self._calls_before = self._failed_before = 0
        self._half_began_s = _NEVER_S
        self._quiet_since_s = _NEVER_S

    def succeeded(self) -> None:
        """One good answer (I3). Cost: one addition where nothing was wrong."""
        self._calls += 1
        if self.failures_in_a_row:
            self.failures_in_a_row = 0
        self.on_probation = False

    def failed(self) -> None:
        """One bad answer, or none."""
        self._calls += 1
        self._failed += 1
        self.failures_in_a_row += 1

    def is_outlier(self, policy: OutlierPolicy) -> bool:
        """Whether the evidence is enough, whatever the others do."""
        if self.on_probation and self.failures_in_a_row:
            return True
        if self.failures_in_a_row >= policy.consecutive:
            return True
        calls = self._calls + self._calls_before
        failed = self._failed + self._failed_before
        return calls >= policy.min_calls and failed >= policy.failure_share * calls

    def tick(self, policy: OutlierPolicy, *, now_s: float) -> bool:
        """Let time pass: True if an absence has ended now. Call it some times a window."""
        if now_s - self._half_began_s >= policy.window_s / 2:
            fresh = now_s - self._half_began_s < policy.window_s
            self._calls_before, self._failed_before = (
                (self._calls, self._failed) if fresh else (0, 0)
            )
            self._calls = self._failed = 0
            self._half_began_s = now_s
        if self.ejected_until_s is not None:
            if now_s < self.ejected_until_s:
                return False
            self._forget()
            self.ejected_until_s = None
            self.on_probation = True
            self._quiet_since_s = now_s
            return True
        if self.ejections and now_s - self._quiet_since_s >= policy.ejection_s(self.ejections):
            self.ejections -= 1
            self._quiet_since_s = now_s
        return False

    def send_away(self, policy: OutlierPolicy, *, now_s: float) -> None:
        """Begin an absence; `eject` decides whether it may."""
        self.ejections += 1
        self.ejected_until_s = now_s + policy.ejection_s(self.ejections)

    def _forget(self) -> None:
        self.failures_in_a_row = 0
        self._calls = self._failed = self._calls_before = self._failed_before = 0


def eject(track: Track, tracks: Collection[Track], policy: OutlierPolicy, *, now_s: float) -> bool:
    """Send `track` away if it is an outlier and its peers leave room (I1); True if it went.

    tracks: of all endpoints, `track` among them. Cost: O(1) without evidence, else O(endpoints).
    """
    if track.ejected_until_s is not None or not track.is_outlier(policy):
        return False
    away = sum(1 for one in tracks if one.ejected_until_s is not None)
    if away >= policy.may_be_ejected(len(tracks)):
        return False
    track.send_away(policy, now_s=now_s)
    return True
