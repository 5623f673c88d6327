"""What a majority has agreed to: pure arithmetic over one configuration or two at once.

While a change is joint, old and new voters must agree, each by its own majority (section 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from month5_kvstore.raft.records import Configuration


class Verdict(StrEnum):
    """How a ballot stands."""

    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def majority(voters: int) -> int:
    """How many of `voters` (>= 0) are more than half."""
    return voters // 2 + 1


def agreed_index(configuration: Configuration, reached: Mapping[int, int]) -> int:
    """The highest number that a majority has reached; of both sides while joint, the lower.

    reached: what each node has reached; who is missing has reached 0. An empty group agrees to 0.
    """
    agreed = _agreed(configuration.voters, reached)
    if configuration.outgoing:
        agreed = min(agreed, _agreed(configuration.outgoing, reached))
    return agreed


def _agreed(voters: tuple[int, ...], reached: Mapping[int, int]) -> int:
    if not voters:
        return 0
    ascending = sorted([reached.get(voter, 0) for voter in voters])
    return ascending[len(voters) - majority(len(voters))]


def tally(configuration: Configuration, votes: Mapping[int, bool]) -> Verdict:
    """How a ballot stands; who is missing from `votes` has not answered yet.

    Lost as soon as one side can no longer win. An empty side of voters never wins.
    """
    verdict = _tally(configuration.voters, votes)
    if not configuration.outgoing:
        return verdict
    other = _tally(configuration.outgoing, votes)
    if Verdict.LOST in (verdict, other):
        return Verdict.LOST
    return Verdict.WON if verdict == other == Verdict.WON else Verdict.PENDING


def _tally(voters: tuple[int, ...], votes: Mapping[int, bool]) -> Verdict:
    needed = majority(len(voters))
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= needed:
        return Verdict.WON
    return Verdict.LOST if len(voters) - refused < needed else Verdict.PENDING
