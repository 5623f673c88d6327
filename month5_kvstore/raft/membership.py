"""Who belongs: changes by one voter (thesis 4.1), and any change by joint consensus (section 6).

A change is one entry; it is in force as soon as it stands in a log. Changes that move one voter
keep old and new majorities overlapping by themselves. All others pass through a joint
configuration in which both majorities are needed; its leader ends it once it is committed.

A change may begin only when the one before is committed and the leader has committed an entry of
its own term: without the second, two leaders may each hold a change the other has never seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from month5_kvstore.raft import replication
from month5_kvstore.raft.errors import ChangeRefused
from month5_kvstore.raft.messages import TimeoutNow
from month5_kvstore.raft.records import Configuration, EntryKind
from month5_kvstore.raft.state import Core, Role, become_follower
from scalelab.errors import InvalidInput


def plan(current: Configuration, voters: Iterable[int], learners: Iterable[int]) -> Configuration:
    """The configuration to write next on the way to these voters and learners.

    Raises InvalidInput for members that make no group, ChangeRefused if they are the members now.
    """
    wanted, taught = sorted(set(voters)), sorted(set(learners))
    if not wanted:
        raise InvalidInput("a group needs at least one voter", field="voters")
    if wanted[0] < 1 or (taught and taught[0] < 1):
        raise InvalidInput("node ids are integers from 1 on", field="voters")
    if both := set(wanted) & set(taught):
        raise InvalidInput(f"{sorted(both)} cannot be voter and learner", field="learners")
    target = Configuration(tuple(wanted), (), tuple(taught))
    if target == current:
        raise ChangeRefused("these are the members already")
    if len(set(wanted) ^ set(current.voters)) <= 1:
        return target
    return Configuration(target.voters, current.voters, target.learners)


def begin(core: Core, voters: Iterable[int], learners: Iterable[int]) -> int:
    """A leader writes the change's first entry; returns its index. Raises ChangeRefused."""
    log = core.log
    if log.committed < log.configuration_index or log.configuration.joint:
        raise ChangeRefused("a membership change is under way; wait until it is committed")
    if not core.has_committed_in_term:
        raise ChangeRefused("this leader has not committed anything yet; ask again shortly")
    return _write(core, plan(log.configuration, voters, learners))


def settle(core: Core) -> None:
    """Go on once the configuration in force is committed: end a joint one, or leave the group."""
    log = core.log
    if core.role is not Role.LEADER or log.committed < log.configuration_index:
        return
    current = log.configuration
    if current.joint:
        _write(core, Configuration(current.voters, (), current.learners))
    elif core.id not in current.voters:
        _hand_over(core)


def _write(core: Core, configuration: Configuration) -> int:
    index = replication.append(core, EntryKind.CONFIGURATION, configuration.encode())
    for gone in sorted(core.progress.keys() - {*configuration.members, core.id}):
        del core.progress[gone]
    return index


def _hand_over(core: Core) -> None:
    """A leader outside its group steps down, and asks the best voter to follow it (4.2.2)."""
    replication.flush(core)
    known = [voter for voter in core.configuration.voters if voter in core.progress]
    if known:
        best = max(known, key=lambda voter: (core.progress[voter].match, -voter))
        core.outbox.append(TimeoutNow(core.id, best, core.term))
    become_follower(core, core.term, 0)
