"""What a limiter does while its store is gone: a named policy, and for how long it stands.

Theory of operation
    The first question the store does not answer begins an outage. For `cooloff_s` seconds the store
    is not asked at all: otherwise every request of an outage would wait for the deadline first.
    Then the next questions try it again.

        OPEN         admit everything: the shop goes on, unprotected
        CLOSED       refuse with `Unavailable`: nothing passes uncounted
        LOCAL_SHARE  count here, with 1/processes of each policy: the sum over all processes
                     keeps the limit when the load is spread evenly (the default)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from scalelab.clock import Clock
from scalelab.errors import Unavailable


class FailurePolicy(Enum):
    """What a limiter answers while its store is gone."""

    OPEN = "open"
    CLOSED = "closed"
    LOCAL_SHARE = "local_share"


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store did not answer; `policy` decides until the cool-off ends."""

    policy: FailurePolicy
    error: str


class Outage:
    """Whether the store is left alone at present. on_event: told of each failed question."""

    def __init__(
        self,
        clock: Clock,
        policy: FailurePolicy,
        *,
        cooloff_s: float = 1.0,
        on_event: Callable[[StoreFailed], None] | None = None,
    ) -> None:
        self.policy = policy
        self._clock = clock
        self._cooloff_s = cooloff_s
        self._on_event = on_event
        self._ask_again_at_s = float("-inf")

    @property
    def lasts(self) -> bool:
        """The store is not to be asked."""
        return self._clock.monotonic_s() < self._ask_again_at_s

    def begin(self, error: Exception) -> None:
        """A question was not answered."""
        self._ask_again_at_s = self._clock.monotonic_s() + self._cooloff_s
        if self._on_event is not None:
            self._on_event(StoreFailed(self.policy, str(error)))

    def refusal(self) -> Unavailable:
        """What CLOSED answers."""
        return Unavailable(
            "the rate limiter's store does not answer", retry_after_s=self._cooloff_s
        )
