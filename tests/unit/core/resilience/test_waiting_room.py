"""Who waits, who is let in, who is sent away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalelab.resilience.waiting_room import Priority, RoomPolicy, WaitingRoom

POLICY = RoomPolicy(seats=3, patience_s=0.1, crowded_s=0.02)


def test_in_good_times_the_first_goes_first() -> None:
    """It was empty a moment ago."""
    room = WaitingRoom[str](POLICY, now_s=0.0)
    room.come_in("a", Priority.NORMAL, now_s=0.0)
    room.come_in("b", Priority.NORMAL, now_s=0.01)
    assert room.next(now_s=0.02) == ("a", [])


def test_in_a_crowded_room_the_newest_goes_first_and_the_old_are_sent_away() -> None:
    """Not empty for longer than patience allows."""
    room = WaitingRoom[str](RoomPolicy(seats=9, patience_s=0.1, crowded_s=0.02), now_s=0.0)
    for number in range(9):
        room.come_in(f"c{number}", Priority.NORMAL, now_s=number * 0.012)
    assert room.next(now_s=0.11) == ("c8", [f"c{n}" for n in range(8)])


def test_the_more_important_goes_first_and_takes_a_seat() -> None:
    """Q2; the room is full of others."""
    room = WaitingRoom[str](POLICY, now_s=0.0)
    for name in "abc":
        assert room.come_in(name, Priority.NORMAL, now_s=0.0) == (True, [])
    assert room.come_in("d", Priority.NORMAL, now_s=0.0) == (False, [])
    assert room.come_in("vip", Priority.CRITICAL, now_s=0.0) == (True, ["a"])
    assert room.next(now_s=0.01) == ("vip", [])


def test_the_sheddable_never_wait() -> None:
    """Even in an empty room."""
    room = WaitingRoom[str](POLICY, now_s=0.0)
    assert room.come_in("a", Priority.SHEDDABLE, now_s=0.0) == (False, [])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "next", "leave"]), st.sampled_from(Priority), st.floats(0, 0.05)
    ),
    max_size=80,
)


@given(STEPS)
def test_everybody_has_one_end_and_nobody_waits_too_long(
    steps: list[tuple[str, Priority, float]],
) -> None:
    """Q1, Q3, Q4 for any order of events."""
    room, now_s = WaitingRoom[object](POLICY, now_s=0.0), 0.0
    inside: dict[object, float] = {}
    for what, priority, later_s in steps:
        now_s += later_s
        if what == "come":
            caller = object()
            waits, away = room.come_in(caller, priority, now_s=now_s)
            if waits:
                inside[caller] = now_s
        elif what == "next":
            found, away = room.next(now_s=now_s)
            if found is not None:
                assert now_s - inside.pop(found) <= POLICY.patience_s
        else:
            away = []
            for caller in list(inside)[:1]:
                assert room.leave(caller)
                del inside[caller]
        for gone in away:
            del inside[gone]
        assert len(room) == len(inside) <= POLICY.seats
