"""A circuit breaker that also obeys: it opens for as long as the service asks. Pure.

Theory of operation
    The machine of scalelab.resilience.circuit_breaker, with one more kind of answer. A failure is a
    sign, of which it takes several to open. A 429 or 503 with Retry-After is a statement: the
    service lives and says when to come back. One is enough, and the time is the service's, not
    ours. After it, one probe at a time, as after any open phase. `Retry-After: 0` states nothing.

Invariants (tests cite them)
    P1  After a statement nothing is admitted before the time it named; of several the latest.
    P2  A statement counts also if it answers a call of an older generation; nothing else does.
    P3  Half-open, at most `probes` calls are out (I2 of the machine below).

Differs from Nygard, "Release It!", 2007, in that the open time may be the callee's.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.resilience import BreakerPolicy, Phase
from scalelab.resilience.circuit_breaker import Admission, Breaker, Outcome, answer, ask

__all__ = ["Admission", "Breaker", "Reply", "ask", "told"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call says of the service. wait_s: set for a statement, >= 0, already bounded."""

    outcome: Outcome
    wait_s: float | None = None


def told(
    breaker: Breaker, policy: BreakerPolicy, generation: int, reply: Reply, *, now_s: float
) -> Breaker:
    """The breaker after an admitted call of `generation` was answered with `reply`."""
    if not reply.wait_s:
        return answer(breaker, policy, generation, reply.outcome, now_s=now_s)
    # An open phase ends `open_s` after `opened_at_s`, so this is an opening that ends when asked.
    opened_at_s = now_s + reply.wait_s - policy.open_s
    if breaker.phase is Phase.OPEN and breaker.opened_at_s >= opened_at_s:
        return breaker
    return Breaker(Phase.OPEN, breaker.generation + 1, opened_at_s=opened_at_s)
