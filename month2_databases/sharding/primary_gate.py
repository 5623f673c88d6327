"""A breaker in front of one shard's primary, so that a dead shard answers at once.

Without it every request for the shard's keys would wait for a connection until its time-out, and
the waiting ones would fill the process that other shards need as well.
"""

from __future__ import annotations

from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, Unavailable
from scalelab.resilience import circuit_breaker as cb

POLICY = cb.BreakerPolicy(failure_ratio=0.5, min_calls=3, window_s=5.0, open_s=1.0, probes=1)


class PrimaryGate:
    """Lets work through to the primary of `shard` while it answers."""

    def __init__(self, shard: str, clock: Clock) -> None:
        self._shard = shard
        self._clock = clock
        self._breaker = cb.Breaker()

    def admit(self) -> int:
        """A pass to give back with `settle`, or Unavailable code `shard_unavailable` at once."""
        now_s = self._clock.monotonic_s()
        self._breaker, admission = cb.ask(self._breaker, POLICY, now_s=now_s)
        if not admission.admitted:
            raise Unavailable(
                f"{self._shard} does not answer",
                retry_after_s=admission.retry_after_s,
                code="shard_unavailable",
            )
        return admission.generation

    def settle(self, admission: int, error: BaseException | None, *, blamed: bool = True) -> None:
        """Say how the work ended. blamed: whether `error` came from the primary's side."""
        now_s = self._clock.monotonic_s()
        outcome = _outcome(error, blamed=blamed)
        self._breaker = cb.answer(self._breaker, POLICY, admission, outcome, now_s=now_s)


def _outcome(error: BaseException | None, *, blamed: bool) -> cb.Outcome:
    if blamed and isinstance(error, (Unavailable, OutcomeUnknown)):
        return cb.Outcome.FAILURE
    if error is None or isinstance(error, Exception):
        return cb.Outcome.SUCCESS  # the primary answered, whatever the caller made of it
    return cb.Outcome.NEUTRAL  # cancelled: nothing was learned
