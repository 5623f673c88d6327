"""The guard's decision by hand and for any history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month2_databases.replication.sync_guard import (
    Action,
    GuardPolicy,
    GuardState,
    Mode,
    Standby,
    decide,
)

POLICY = GuardPolicy(alone_limit_s=5.0, suspect_after_s=3.0, lag_limit_bytes=100)
HERE = Standby(is_streaming=True, silent_s=0.2, lag_bytes=0)
HUNG = Standby(is_streaming=True, silent_s=9.0, lag_bytes=0)
BEHIND = Standby(is_streaming=True, silent_s=0.2, lag_bytes=5000)
CATCHING_UP = Standby(is_streaming=False, silent_s=0.2, lag_bytes=0)


def run(mode: Mode, *looks: tuple[float, tuple[Standby, ...]]) -> list[Action]:
    """What the guard does at each look, with the server following it."""
    state, actions = GuardState(), list[Action]()
    for now_s, standbys in looks:
        state, action = decide(state, POLICY, mode=mode, standbys=standbys, now_s=now_s)
        mode = {Action.RELAX: Mode.DEGRADED, Action.REQUIRE: Mode.SYNCHRONOUS}.get(action, mode)
        actions.append(action)
    return actions


def test_it_relaxes_only_after_the_whole_limit_alone() -> None:
    """I1: at five seconds not yet, just after it yes, and only once."""
    actions = run(Mode.SYNCHRONOUS, (10.0, ()), (15.0, ()), (15.1, ()), (20.0, ()))
    assert actions == [Action.NOTHING, Action.NOTHING, Action.RELAX, Action.NOTHING]


def test_a_replica_that_comes_back_in_time_starts_the_clock_anew() -> None:
    """I1: two absences of three seconds are not one of six."""
    looks = ((0.0, ()), (3.0, ()), (3.1, (HERE,)), (4.0, ()), (7.0, ()))
    assert set(run(Mode.SYNCHRONOUS, *looks)) == {Action.NOTHING}


def test_a_hung_replica_counts_as_away() -> None:
    """Its connection is open and it answers nothing."""
    assert run(Mode.SYNCHRONOUS, (0.0, (HUNG,)), (5.1, (HUNG,)))[-1] is Action.RELAX


def test_a_returning_replica_is_required_when_it_has_caught_up() -> None:
    """I2: not while it copies, not while it is far behind, then at once."""
    looks = ((0.0, (CATCHING_UP,)), (1.0, (BEHIND,)), (2.0, (HERE,)))
    assert run(Mode.DEGRADED, *looks) == [Action.NOTHING, Action.NOTHING, Action.REQUIRE]


def test_a_busy_replica_that_is_behind_for_a_moment_is_not_given_up() -> None:
    """While commits wait for it, being behind is what the waiting is about."""
    assert set(run(Mode.SYNCHRONOUS, (0.0, (BEHIND,)), (60.0, (BEHIND,)))) == {Action.NOTHING}


def test_one_replica_of_two_is_enough() -> None:
    """ANY 1 of them."""
    assert run(Mode.DEGRADED, (0.0, (HUNG, HERE))) == [Action.REQUIRE]


@given(
    st.sampled_from(Mode),
    st.lists(
        st.tuples(st.floats(0, 4), st.sampled_from([(), (HERE,), (HUNG,), (BEHIND,)])), max_size=40
    ),
)
def test_the_invariants_hold_for_any_history(
    mode: Mode, history: list[tuple[float, tuple[Standby, ...]]]
) -> None:
    """I1 and I2: relaxed only after the limit alone, required only with a replica in sight."""
    state, now_s, with_somebody_s = GuardState(), 0.0, 0.0
    for wait_s, standbys in history:
        now_s += wait_s
        state, action = decide(state, POLICY, mode=mode, standbys=standbys, now_s=now_s)
        if action is Action.RELAX:
            assert now_s - with_somebody_s > POLICY.alone_limit_s
            mode = Mode.DEGRADED
        if action is Action.REQUIRE:
            assert standbys == (HERE,)
            mode = Mode.SYNCHRONOUS
        if standbys == (HERE,) or (standbys == (BEHIND,) and mode is Mode.SYNCHRONOUS):
            with_somebody_s = now_s
