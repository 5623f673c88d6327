"""Concurrency limit: at most `slots` holders at a time, each with a lease that ends by itself.

Theory of operation
    A rate says how often work may begin; this says how much may be under way. A holder acquires a
    lease under an id of its own and releases it at the end. A holder that dies releases nothing:
    its lease expires after `lease_s`. Both steps may be repeated: acquiring a held id renews it,
    releasing an id that is not held changes nothing.

Invariants (tests cite them)
    I1  At most `slots` leases are unexpired at any instant.
    I2  Release is idempotent, and releases no lease but its own.
    I3  A refused request takes no slot. An expired lease takes none either.

Absent on purpose: fencing. A holder slower than its lease goes on beside the next one, so choose
`lease_s` well above the deadline of the work. No queue: the refused caller decides to wait.
Source: Gray & Cheriton 1989, "Leases"; differs in: the lease is one of `slots` equal ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from month1_caching_gateway.ratelimit.token_bucket import Decision
from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """slots: holders at a time, >= 1. lease_s: seconds until an unreleased lease ends, > 0."""

    slots: int
    lease_s: float

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise InvalidInput(f"slots {self.slots} must be >= 1", field="slots")
        if not (math.isfinite(self.lease_s) and self.lease_s > 0.0):
            raise InvalidInput(f"lease_s {self.lease_s} must be > 0", field="lease_s")

    def share(self, parts: int) -> LeasePolicy:
        """One of `parts` shares, at least one slot; see `Policy.share`."""
        return LeasePolicy(max(1, self.slots // parts), self.lease_s)


class LeaseStep(Enum):
    """What is asked of a lease."""

    ACQUIRE = "acquire"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """One step for the lease `lease_id` (not empty, unique to its holder)."""

    policy: LeasePolicy
    step: LeaseStep
    lease_id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """One holder and when it stops counting, on the store's clock."""

    lease_id: str
    expires_at_s: float


Leases = tuple[Lease, ...]
"""State of one key, expired ones included until the next step. At most `slots` unexpired."""


def lease_decide(leases: Leases, ask: LeaseAsk, *, now_s: float) -> tuple[Leases, Decision]:
    """Forget what has expired, then acquire or release.

    The decision of an acquire: admitted, slots left, and the time until the first lease expires.
    The decision of a release: whether the lease was still held, and the slots left.
    Raises InvalidInput for an empty id. Cost: O(slots).
    """
    check_lease(ask)
    others = tuple(one for one in leases if one.expires_at_s > now_s)
    count = len(others)
    others = tuple(one for one in others if one.lease_id != ask.lease_id)
    held = len(others) < count
    slots = ask.policy.slots
    if ask.step is LeaseStep.RELEASE:
        return others, Decision(held, float(max(0, slots - len(others))), 0.0)
    if len(others) >= slots and not held:
        wait_s = min(one.expires_at_s for one in others) - now_s
        return others, Decision(False, 0.0, wait_s)
    mine = Lease(ask.lease_id, now_s + ask.policy.lease_s)
    return (*others, mine), Decision(True, float(max(0, slots - len(others) - 1)), 0.0)


def check_lease(ask: LeaseAsk) -> None:
    """Raise InvalidInput for an empty id: two holders would share it."""
    if not ask.lease_id:
        raise InvalidInput("a lease needs an id of its own", field="lease_id")
