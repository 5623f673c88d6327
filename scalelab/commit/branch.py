"""A participant's part (branch) of a distributed transaction, as values. Pure.

For stores without prepared transactions of their own. PREPARED must be durable, with everything
that carrying the outcome out needs, before the vote leaves; so must an outcome before it is
acknowledged.

Invariants
    B1  A branch that voted YES ends only by a Finish, and never changes after that.
    B2  Before its vote it may abort alone, at any time; then it votes NO for ever.
"""

from __future__ import annotations

from enum import StrEnum

from scalelab.commit.two_phase import Outcome, Vote
from scalelab.errors import InvariantBroken


class Branch(StrEnum):
    """Where a branch stands. WORKING is in memory only: a crash makes it ABORTED."""

    WORKING = "working"
    PREPARED = "prepared"
    COMMITTED = "committed"
    ABORTED = "aborted"


def prepare(branch: Branch, *, able: bool) -> tuple[Branch, Vote]:
    """Asked to prepare. able: whether it can promise to commit. A repeated question is answered
    again as before."""
    match branch:
        case Branch.WORKING if able:
            return Branch.PREPARED, Vote.YES
        case Branch.WORKING:
            return Branch.ABORTED, Vote.NO
        case Branch.ABORTED:
            return branch, Vote.NO
        case Branch.PREPARED | Branch.COMMITTED:
            return branch, Vote.YES


def finish(branch: Branch, outcome: Outcome) -> Branch:
    """Told the outcome; a repeated one changes nothing (B1).

    Raises InvariantBroken for a commit without a vote, or for the opposite of what was done.
    """
    if outcome is Outcome.ABORT:
        if branch is Branch.COMMITTED:
            raise InvariantBroken("a committed branch is told to abort")
        return Branch.ABORTED
    if branch in (Branch.WORKING, Branch.ABORTED):
        raise InvariantBroken(f"a branch that is {branch} is told to commit")
    return Branch.COMMITTED
