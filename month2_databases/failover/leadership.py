"""Who may be written to: the claim with the newest timeline, if no newer one was ever seen. Pure.

Theory of operation
    Every promotion begins a new timeline, so a timeline is a fencing token: an old primary that
    was frozen or cut off wakes up on the one it had. A client remembers the highest it has
    committed on (its fence) and refuses to write below it.

Invariants (tests cite them)
    I1  A claim below the fence is never chosen; the fence never goes down.
    I2  Of several claims the newest timeline is chosen; two with the same one choose nobody.
    I3  A leader that was not confirmed for `confirm_every_s` is confirmed before it is written to.

What this does not do: a client that has seen no promotion yet has nothing to compare. It may write
to an old primary until its next confirmation. Only commits that wait for a replica close that gap
(the replica listens to the new primary, so the old one's commits are never acknowledged).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A node that says it holds the lease and takes writes."""

    node: str
    timeline: int


def choose(claims: Iterable[Claim], *, fence: int) -> Claim | None:
    """The claim to believe, or None. fence: the highest timeline known, 0 for none."""
    credible = [claim for claim in claims if claim.timeline >= fence]
    newest = max((claim.timeline for claim in credible), default=0)
    first = [claim for claim in credible if claim.timeline == newest]
    return first[0] if len(first) == 1 else None


def must_confirm(*, confirmed_at_s: float, now_s: float, confirm_every_s: float) -> bool:
    """Whether a leader has to be asked again before the next write (I3)."""
    return now_s - confirmed_at_s >= confirm_every_s
