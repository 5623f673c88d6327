"""How patient a node is and how much it sends at once. Time is counted in ticks.

A tick is whatever the driver makes it, the same for all nodes of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's settings; those of a group should agree.

    election_ticks: shortest election time-out; the time-out of each round is drawn from
    election_ticks .. 2 * election_ticks - 1. Longer: fewer false alarms, slower failover.
    heartbeat_ticks: between two heartbeats, well below election_ticks (a third or less), so that
    one lost message starts no election.
    pre_vote: ask before raising the term, so that a node that was cut off disturbs nobody.
    check_quorum: a leader that has not heard from a majority for election_ticks steps down, and
    whoever hears a leader refuses votes.
    lease_reads: answer reads without asking a majority while its last answer is fresh. Trusts
    that no node's clock runs faster than another's by more than the tenth kept back; off.
    append_bytes_max: data in one AppendEntries (one entry may exceed it alone).
    inflight_max: AppendEntries on their way to one follower without an answer. 1: no pipelining.
    snapshot_patience_rounds: heartbeats answered without a word of a snapshot that was sent,
    before it is sent again. Must outlast the transfer of a large one.
    uncommitted_bytes_max: data a leader takes before it refuses proposals.
    apply_bytes_max: committed data handed to the driver at once.
    """

    election_ticks: int = 10
    heartbeat_ticks: int = 2
    pre_vote: bool = True
    check_quorum: bool = True
    lease_reads: bool = False
    append_bytes_max: int = 64 * 1024
    inflight_max: int = 64
    snapshot_patience_rounds: int = 20
    uncommitted_bytes_max: int = 64 * 1024 * 1024
    apply_bytes_max: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        """Raises InvalidInput for settings that cannot work together."""
        if self.heartbeat_ticks < 1:
            raise InvalidInput("heartbeat_ticks must be at least 1", field="heartbeat_ticks")
        if self.election_ticks < 2 * self.heartbeat_ticks:
            raise InvalidInput(
                f"election_ticks {self.election_ticks} must be at least twice heartbeat_ticks "
                f"{self.heartbeat_ticks}: followers would depose every leader",
                field="election_ticks",
            )
        bounds = {
            "append_bytes_max": self.append_bytes_max,
            "inflight_max": self.inflight_max,
            "snapshot_patience_rounds": self.snapshot_patience_rounds,
            "uncommitted_bytes_max": self.uncommitted_bytes_max,
            "apply_bytes_max": self.apply_bytes_max,
        }
        for name, bound in bounds.items():
            if bound < 1:
                raise InvalidInput(f"{name} must be at least 1", field=name)
        if self.lease_reads and not self.check_quorum:
            raise InvalidInput(
                "lease_reads needs check_quorum: without it nobody honours the lease",
                field="lease_reads",
            )
