"""Smooth weighted round robin: turns in proportion to weights, without runs of one server.

Theory of operation
    Every pick gives each available server credit equal to its weight; the one with the most
    credit is picked and pays the sum of all weights. Weights 5, 1, 1 give a a b a c a a, where
    plain weighted turns would give a a a a a b c and hit one server five times in a row.

Invariants (tests cite them)
    I1  With an unchanged set of servers, any run of W picks, W the sum of weights, begun without
        credits or at any pick after, has each server exactly `weight` times.
    I2  Credits of the set add up to 0 after every pick that began so.
    I3  A server that is not available is not picked and loses its credit: it comes back without
        a burst to catch up on.

Source: the scheduling of nginx's upstream module, by Maxim Dounin, 2012.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scalelab.balancing.picks import Candidate
from scalelab.errors import InvalidInput


def weighted_round_robin(
    backends: Sequence[Candidate], weights: Mapping[str, int], credits: Mapping[str, int]
) -> tuple[int | None, dict[str, int]]:
    """The index of the next server, or None if none is available, and the credits for next time.

    weights: by name, whole and >= 1; a name left out weighs 1. credits: {} at first, then what
    the last call gave. Names must differ. Raises InvalidInput for a weight below 1. Cost: O(n).
    """
    able = [index for index, backend in enumerate(backends) if backend.available]
    if not able:
        return None, {}
    share = {backends[index].name: weights.get(backends[index].name, 1) for index in able}
    if min(share.values()) < 1:
        raise InvalidInput("a weight below 1 never gets a turn", field="weights")
    raised = {name: credits.get(name, 0) + weight for name, weight in share.items()}
    picked = max(able, key=lambda index: raised[backends[index].name])
    raised[backends[picked].name] -= sum(share.values())
    return picked, raised
