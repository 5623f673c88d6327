"""Failover: find the leader, outlive its loss, and account for every acknowledged write."""

from month2_databases.failover.directory import PatroniDirectory
from month2_databases.failover.leader_database import (
    Done,
    FailoverPolicy,
    LeaderChanged,
    LeaderDatabase,
)
from month2_databases.failover.leadership import Claim, choose, must_confirm
from month2_databases.failover.ledger import Attempt, Outcome, Verdict, beyond, counts, judge
from month2_databases.failover.multi_host import any_primary

__all__ = [
    "Attempt",
    "Claim",
    "Done",
    "FailoverPolicy",
    "LeaderChanged",
    "LeaderDatabase",
    "Outcome",
    "PatroniDirectory",
    "Verdict",
    "any_primary",
    "beyond",
    "choose",
    "counts",
    "judge",
    "must_confirm",
]
