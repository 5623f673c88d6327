"""Who may answer a read: the floor and the bound are kept, the primary answers otherwise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.replication.causal_past import Past
from month2_databases.replication.consistency_token import (
    ConsistencyToken,
    ReplayPosition,
    covers,
)
from month2_databases.replication.read_policy import (
    ANY_REPLICA,
    CAUSAL,
    MONOTONIC_READS,
    PRIMARY_ONLY,
    READ_YOUR_WRITES,
    Guarantee,
    ReadPolicy,
    ReadReason,
    ReplicaView,
    bounded_staleness,
    choose,
    floor_of,
)
from scalelab.errors import InvalidInput

TOKENS = st.none() | st.builds(
    ConsistencyToken, st.just("shop"), st.integers(1, 2), st.integers(0, 50)
)
PASTS = st.builds(Past, TOKENS, TOKENS, st.booleans())
VIEWS = st.builds(
    ReplicaView,
    st.just("r"),
    st.none() | st.builds(ReplayPosition, st.integers(1, 2), st.integers(0, 50)),
    st.floats(0, 10),
)
POLICIES = st.builds(ReadPolicy, st.sampled_from(Guarantee), st.sampled_from([0.5, 5.0, math.inf]))


def at(lsn: int, *, timeline: int = 1, stale_s: float = 0.1) -> ReplicaView:
    return ReplicaView(f"r{lsn}", ReplayPosition(timeline, lsn), stale_s)


def wrote(lsn: int, *, timeline: int = 1) -> Past:
    return Past(written=ConsistencyToken("shop", timeline, lsn))


@given(POLICIES, PASTS, st.lists(VIEWS, max_size=4), st.integers(0, 9))
def test_every_candidate_covers_the_floor_and_keeps_the_bound(
    policy: ReadPolicy, past: Past, views: list[ReplicaView], turn: int
) -> None:
    """I1 for any past and any replicas; without a candidate the reason is one of the primary's."""
    choice = choose(policy, past, views, cluster="shop", turn=turn)
    floor = floor_of(policy.guarantee, past)
    for index in choice.candidates:
        position = views[index].position
        assert position is not None
        assert floor is None or covers(position, "shop", floor)
        assert views[index].stale_s <= policy.max_staleness_s
    on_replica = {ReadReason.ANY_WILL_DO, ReadReason.FRESH_ENOUGH, ReadReason.CAUGHT_UP}
    assert bool(choice.candidates) == (choice.reason in on_replica)


@given(POLICIES, PASTS, st.lists(VIEWS, max_size=4), st.integers(0, 9))
def test_no_fit_replica_is_left_out(
    policy: ReadPolicy, past: Past, views: list[ReplicaView], turn: int
) -> None:
    """The other half of I1: whoever covers the floor and keeps the bound is a candidate."""
    choice = choose(policy, past, views, cluster="shop", turn=turn)
    if policy.guarantee is Guarantee.PRIMARY or (
        past.is_refused and policy.guarantee is not Guarantee.ANY
    ):
        assert choice.candidates == ()
        return
    floor = floor_of(policy.guarantee, past)
    fit = {
        index
        for index, view in enumerate(views)
        if view.position is not None
        and (floor is None or covers(view.position, "shop", floor))
        and view.stale_s <= policy.max_staleness_s
    }
    assert set(choice.candidates) == fit


@given(PASTS)
def test_the_causal_floor_covers_the_other_two(past: Past) -> None:
    """I4."""
    causal = floor_of(Guarantee.CAUSAL, past)
    for guarantee in (Guarantee.READ_YOUR_WRITES, Guarantee.MONOTONIC_READS):
        floor = floor_of(guarantee, past)
        if floor is not None:
            assert causal is not None
            assert (causal.timeline, causal.lsn) >= (floor.timeline, floor.lsn)


def test_fit_replicas_come_first_in_turn() -> None:
    """I3 over three replicas of which the middle one is behind."""
    views = [at(10), at(3), at(12)]
    firsts = [
        views[choose(READ_YOUR_WRITES, wrote(8), views, cluster="shop", turn=turn).candidates[0]]
        for turn in range(6)
    ]
    assert {view.name for view in firsts} == {"r10", "r12"}


@pytest.mark.parametrize("policy", [READ_YOUR_WRITES, MONOTONIC_READS, CAUSAL])
def test_a_refused_past_reads_the_primary(policy: ReadPolicy) -> None:
    """I2: and nothing is raised."""
    choice = choose(policy, Past(is_refused=True), [at(99)], cluster="shop", turn=0)
    assert (choice.candidates, choice.reason) == ((), ReadReason.TOKEN_REFUSED)


@pytest.mark.parametrize(
    ("policy", "past", "views", "reason"),
    [
        (PRIMARY_ONLY, Past(), [at(9)], ReadReason.ASKED_FOR),
        (ANY_REPLICA, Past(is_refused=True), [at(9)], ReadReason.ANY_WILL_DO),
        (ANY_REPLICA, Past(), [ReplicaView("gone", None)], ReadReason.NO_REPLICA),
        (READ_YOUR_WRITES, wrote(9), [at(9)], ReadReason.CAUGHT_UP),
        (READ_YOUR_WRITES, wrote(10), [at(9)], ReadReason.BEHIND),
        (READ_YOUR_WRITES, wrote(9, timeline=2), [at(99)], ReadReason.BEHIND),
        (READ_YOUR_WRITES, Past(), [at(9)], ReadReason.ANY_WILL_DO),
        (bounded_staleness(1.0), Past(), [at(9, stale_s=0.9)], ReadReason.FRESH_ENOUGH),
        (bounded_staleness(1.0), Past(), [at(9, stale_s=1.1)], ReadReason.TOO_STALE),
        (bounded_staleness(1.0), Past(), [at(9, stale_s=math.inf)], ReadReason.TOO_STALE),
    ],
)
def test_the_reason_says_why(
    policy: ReadPolicy, past: Past, views: list[ReplicaView], reason: ReadReason
) -> None:
    """One line a case."""
    assert choose(policy, past, views, cluster="shop", turn=0).reason is reason


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_that_nothing_can_keep_is_refused(bound: float) -> None:
    """An answer takes time."""
    with pytest.raises(InvalidInput, match="cannot be at most"):
        bounded_staleness(bound)
