"""XFetch: load a popular value anew a little before it ends, each reader by its own dice. Pure.

Theory of operation
    When a popular value ends, everybody misses at once. Here every reader moves the clock forward
    by a random time of the size of a load: gap = load_ms * beta * -ln(draw). If that passes the
    end, this reader loads anew while all others are still served. The gap is exponential, so early
    loads are rare until the end is about one load away; the more readers, the surer one of them is
    early enough; a value nobody reads is not loaded for nobody.

    The chance that a reader is early by t ms is exp(-t / (beta * load_ms)). beta = 1 minimises the
    stampede for a given number of early loads under the paper's assumptions; more is earlier.

Source: Vattani, Chierichetti and Lowenstein 2015, "Optimal probabilistic cache stampede
prevention", algorithm XFetch.
"""

from __future__ import annotations

import math


def loads_early(*, left_ms: float, load_ms: float, beta: float, draw: float) -> bool:
    """Whether this reader loads anew although the value is fresh for `left_ms` more.

    load_ms: what the last load took. draw: uniform in 0..1, a new one for each reader.
    """
    if beta <= 0 or load_ms <= 0:
        return left_ms <= 0
    gap_ms = load_ms * beta * -math.log(draw) if draw > 0 else math.inf
    return gap_ms >= left_ms


def chance(*, left_ms: float, load_ms: float, beta: float) -> float:
    """The probability that one reader loads early: the line in the tests and on the page."""
    return math.exp(-left_ms / (load_ms * beta)) if left_ms > 0 else 1.0
