"""Claims about the steps of a move (pure)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.resharding.pace import Pace
from month2_databases.resharding.steps import (
    ABORTABLE,
    Move,
    Step,
    aborted,
    done,
    plan,
    taken_over,
    verified,
)
from scalelab.errors import Conflict, InvalidInput

START = plan("m1", (4, 3, 3), "a", "b")


def walked(steps: int) -> Move:
    move = START
    for _ in range(steps):
        move = done(move)
    return move


def test_a_move_that_nothing_stops_is_done_in_seven_steps() -> None:
    """I3: in the order of the picture."""
    assert [walked(n).step.value for n in range(8)] == [
        "planned",
        "copying",
        "catching_up",
        "fencing",
        "verifying",
        "switching",
        "cleaning",
        "done",
    ]


@given(facts=st.lists(st.sampled_from(["done", "abort", "good", "bad", "taken"]), max_size=30))
def test_once_switching_a_move_can_only_be_finished(facts: list[str]) -> None:
    """I1, I2, I3 for any order of facts: what is refused changes nothing."""
    move, seen = START, [START.step]
    for fact in facts:
        try:
            match fact:
                case "done":
                    move = done(move)
                case "abort":
                    move = aborted(move, reason="asked for")
                case "good":
                    move = verified(move, rows=7, differing=())
                case "bad":
                    move = verified(move, rows=7, differing=("t",))
                case _:
                    move = taken_over(move)
        except Conflict:
            continue
        seen.append(move.step)
    if Step.SWITCHING in seen:
        assert not {Step.ABORTING, Step.ABORTED} & set(seen)
    for ended in (Step.DONE, Step.ABORTED):
        if ended in seen:
            assert set(seen[seen.index(ended) :]) == {ended}


def test_a_move_can_be_aborted_until_the_target_takes_writes() -> None:
    """I2, step by step."""
    allowed: set[Step | None] = set()
    refused: set[str] = set()
    for steps in range(8):
        move = walked(steps)
        try:
            allowed.add(move.step if aborted(move, reason="r").step is Step.ABORTING else None)
        except Conflict as error:
            refused.add(error.stable_code)
    assert (allowed, refused) == (ABORTABLE, {"move_switched"})


def test_an_abort_twice_keeps_the_first_reason() -> None:
    """Repeatable, in the middle of it and after it."""
    once = aborted(walked(2), reason="first")
    assert aborted(once, reason="second") == once
    assert aborted(done(once), reason="second") == done(once)


def test_rows_that_differ_turn_the_move_back() -> None:
    """And the reason says which."""
    move = verified(walked(4), rows=9, differing=("orders (9 rows, 8 copied)",))
    assert (move.step, move.reason) == (
        Step.ABORTING,
        "rows differ in orders (9 rows, 8 copied)",
    )
    assert verified(walked(4), rows=9, differing=()).rows == 9


def test_only_a_fenced_move_is_verified() -> None:
    """Before the fence both sides still change."""
    with pytest.raises(Conflict) as caught:
        verified(walked(3), rows=9, differing=())
    assert caught.value.stable_code == "move_step"


def test_a_plan_has_each_slot_once_in_order_and_names_its_mistakes() -> None:
    """No slots, a slot that is none, a shard to itself."""
    assert START.slots == (3, 4)
    assert START.title == "m1: slots 3-4 from a to b"
    for slots, target in (((), "b"), ((256,), "b"), ((-1,), "b"), ((3,), "a")):
        with pytest.raises(InvalidInput):
            plan("m1", slots, "a", target)


def test_whoever_takes_a_move_over_has_the_next_epoch() -> None:
    """The step stays: it is done again."""
    after = taken_over(walked(2))
    assert (after.step, after.epoch) == (Step.CATCHING_UP, 1)


@given(rate=st.floats(1.0, 1e6), rows=st.integers(0, 10**7), elapsed_s=st.floats(0.0, 1e4))
def test_a_pace_is_kept_and_no_more_is_waited(rate: float, rows: int, elapsed_s: float) -> None:
    """After the pause the rows took exactly the time the rate gives, or there was none to wait."""
    pause_s = Pace(rate).pause_s(rows, elapsed_s)
    assert pause_s >= 0
    assert elapsed_s + pause_s == pytest.approx(max(rows / rate, elapsed_s))
    assert Pace().pause_s(rows, elapsed_s) == 0.0


def test_a_pace_is_positive() -> None:
    """Zero would wait for ever."""
    with pytest.raises(InvalidInput):
        Pace(0.0)
