"""The pick as an upstream's policy: by name from a configuration, with the state that it needs.

    round_robin         each in turn, in proportion to weights where these differ
    least_connections   the least loaded of all
    two_choices         the less loaded of two drawn at random
    ring                by key, with bounded load: a popular key spills over
    rendezvous          by key, exact shares, no bound
    jump                by key, endpoints known by their place in the list

The picks stand in scalelab.balancing; here is only what one upstream remembers between two of
them: whose turn it is, credits, a ring of its members. One set of endpoints, one policy: a new
set gets a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from scalelab.balancing import (
    Candidate,
    RandomBelow,
    jump_pick,
    least_connections,
    rendezvous_pick,
    ring_pick,
    round_robin,
    two_choices,
    weighted_round_robin,
)
from scalelab.hashing import Member, Rendezvous, Ring

Balance = Literal["round_robin", "least_connections", "two_choices", "ring", "rendezvous", "jump"]
KEYED: frozenset[Balance] = frozenset(("ring", "rendezvous", "jump"))
"""Policies that look at a request's key."""

_WEIGHT_UNITS = 100
"""Weights become whole numbers for turns: hundredths, so that a slow start has some steps."""


class Policy(Protocol):
    """Picks one of the endpoints it was made for."""

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        """An index, or None if none is available. key: "" unless the policy is in KEYED."""
        ...


class Turns:
    """Round robin; smooth weighted round robin while weights differ."""

    def __init__(self) -> None:
        self._turn = -1
        self._credits: dict[str, int] = {}

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        if _are_equal(endpoints):
            self._turn += 1
            index = round_robin(endpoints, self._turn)
            if index is not None:
                self._turn = index  # passed-over ones do not double their neighbour's turns
            return index
        weights = {one.name: max(1, round(one.weight * _WEIGHT_UNITS)) for one in endpoints}
        index, self._credits = weighted_round_robin(endpoints, weights, self._credits)
        return index


class LeastConnections:
    """Ties go round."""

    def __init__(self) -> None:
        self._turn = -1

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        self._turn += 1
        return least_connections(endpoints, self._turn)


class TwoChoices:
    """random_below: see scalelab.balancing."""

    def __init__(self, random_below: RandomBelow) -> None:
        self._random_below = random_below

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        return two_choices(endpoints, self._random_below)


class ByRing:
    """Keys keep their endpoint until it has its fill. Weights are the configured ones."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._ring = Ring.of(members)

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        return ring_pick(endpoints, self._ring, key)


class ByRendezvous:
    """Keys keep their endpoint while it is there."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._ranking = Rendezvous.of(members)

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        return rendezvous_pick(endpoints, self._ranking, key)


class ByJump:
    """Keys keep their place in the list."""

    def pick(self, endpoints: Sequence[Candidate], key: str) -> int | None:
        return jump_pick(endpoints, key)


def policy_for(balance: Balance, members: Sequence[Member], random_below: RandomBelow) -> Policy:
    """A policy for these members: names as the candidates', in their order."""
    if balance == "least_connections":
        return LeastConnections()
    if balance == "two_choices":
        return TwoChoices(random_below)
    if balance == "ring":
        return ByRing(members)
    if balance == "rendezvous":
        return ByRendezvous(members)
    if balance == "jump":
        return ByJump()
    return Turns()


def _are_equal(endpoints: Sequence[Candidate]) -> bool:
    weight = endpoints[0].weight
    for one in endpoints:  # noqa: SIM110 - for each request; a generator would cost more
        if one.weight != weight:
            return False
    return True
