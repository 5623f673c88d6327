"""What the core refuses, and why. Nothing was changed when one of these is raised."""

from __future__ import annotations

from scalelab.errors import Conflict, InvariantBroken, Unavailable


class NotLeader(Unavailable):
    """Only a leader can do this. leader_id: whom to ask instead, 0 if nobody is known."""

    code = "not_leader"

    def __init__(self, message: str, *, leader_id: int) -> None:
        super().__init__(message, retry_after_s=0.05)
        self.leader_id = leader_id


class ChangeRefused(Conflict):
    """This membership change cannot begin now, or makes no sense at all."""

    code = "membership_change_refused"


class ContractBroken(InvariantBroken):
    """The driver did not keep the order of `Ready`. A bug of ours; the node stops."""
