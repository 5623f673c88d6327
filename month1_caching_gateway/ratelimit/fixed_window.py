"""Fixed window: count the requests of each aligned window, begin again with the next one.

Theory of operation
    Time is cut into windows of capacity / rate_per_s seconds, aligned to multiples of that length.
    A request of cost c is admitted when used + c <= capacity. Cheap, easy to explain, and the
    count is exact for each window; between windows nothing is remembered.

Invariants (tests cite them)
    I1  0 <= used <= capacity.
    I2  In any aligned window at most `capacity` is admitted. An interval of t seconds touches at
        most ceil(t / window) + 1 of them, so at a boundary 2 * capacity may pass at once.
    I3  A refused request changes nothing.

Absent on purpose: any memory of the window before (see sliding_window.py).
Source: the common counter with an expiry; analysed by no one paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy, check_cost

SHORTEST_WAIT_S = 1e-6
"""A refused caller waits at least this long: one step of the server's clock."""


@dataclass(frozen=True, slots=True)
class Window:
    """State of one key: what was admitted in the window that began at `began_s`."""

    used: float
    began_s: float


def window_s(policy: Policy) -> float:
    """Length of a window: as long as the capacity takes to be earned at the rate."""
    return policy.capacity / policy.rate_per_s


def window_begin_s(policy: Policy, now_s: float) -> float:
    """When the aligned window that holds `now_s` began."""
    length_s = window_s(policy)
    return math.floor(now_s / length_s) * length_s


def empty_window(policy: Policy, *, now_s: float) -> Window:
    """The window of a key that was never seen."""
    return Window(0.0, window_begin_s(policy, now_s))


def window_decide(
    window: Window, policy: Policy, *, cost: float, now_s: float
) -> tuple[Window, Decision]:
    """Turn to the window of `now_s` if it is a later one, then admit or refuse `cost`.

    Raises InvalidInput unless 0 < cost <= capacity. A clock that steps back into an earlier
    window goes on with the later one.
    """
    check_cost(cost, policy)
    began_s = window_begin_s(policy, now_s)
    current = window if window.began_s >= began_s else Window(0.0, began_s)
    if current.used + cost > policy.capacity:
        wait_s = max(SHORTEST_WAIT_S, current.began_s + window_s(policy) - now_s)
        return current, Decision(False, policy.capacity - current.used, wait_s)
    used = current.used + cost
    return Window(used, current.began_s), Decision(True, policy.capacity - used, 0.0)
