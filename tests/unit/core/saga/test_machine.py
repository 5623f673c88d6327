"""The saga machine: absorbing, remembering, ending."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import CorruptData, InvalidInput
from scalelab.saga import DEADLINE, Kind, Rule, SagaDefinition, SagaState, Step, advance, begin

TRIP = SagaDefinition(
    name="trip",
    start="hotel",
    start_effects=("book_hotel",),
    steps={
        "hotel": Step(
            {
                "hotel_booked": Rule("flight", ("book_flight",)),
                "hotel_refused": Rule("gave_up"),
                DEADLINE: Rule("undoing", ("cancel_hotel",)),
            },
            deadline_s=30.0,
        ),
        "flight": Step({"flight_booked": Rule("booked", ("tell",))}),
        "undoing": Step({"hotel_cancelled": Rule("gave_up")}, kind=Kind.COMPENSATING),
        "booked": Step(kind=Kind.END),
        "gave_up": Step(kind=Kind.END),
    },
)
EVENTS = [*sorted(TRIP.facts), DEADLINE]


def tell(*events: str) -> tuple[SagaState, list[str]]:
    state, effects = begin(TRIP)
    ordered = [effect.name for effect in effects]
    for event in events:
        state, effects = advance(TRIP, state, event)
        ordered += [effect.name for effect in effects]
    return state, ordered


def test_the_straight_way_orders_each_effect_once() -> None:
    """Facts in order lead to the end, each with its effects."""
    state, ordered = tell("hotel_booked", "flight_booked")
    assert (state.step, state.ended, state.version) == ("booked", True, 2)
    assert ordered == ["book_hotel", "book_flight", "tell"]


def test_a_fact_that_arrives_too_early_waits_for_its_step() -> None:
    """Swapped by the transport, two facts lead to the same end with the same effects."""
    assert tell("flight_booked", "hotel_booked") == tell("hotel_booked", "flight_booked")


def test_a_duplicate_changes_nothing() -> None:
    """I1: the very same state object comes back and nothing is ordered."""
    state, _ = tell("hotel_booked")
    again, effects = advance(TRIP, state, "hotel_booked")
    assert again is state
    assert effects == ()


def test_a_late_reply_after_the_deadline_is_absorbed() -> None:
    """Compensation goes on whatever the action's late answer says."""
    state, ordered = tell(DEADLINE, "hotel_booked", "hotel_cancelled")
    assert state.step == "gave_up"
    assert ordered == ["book_hotel", "cancel_hotel"]


def test_a_deadline_is_dropped_where_no_rule_waits_for_it() -> None:
    """DEADLINE is about the present step; it is not kept for a later one."""
    state, _ = tell("hotel_booked")
    again, effects = advance(TRIP, state, DEADLINE)
    assert again is state
    assert effects == ()


def test_an_unknown_event_is_refused() -> None:
    """A name no step waits for is a mistake of the caller, not a late fact."""
    state, _ = begin(TRIP)
    with pytest.raises(InvalidInput) as refusal:
        advance(TRIP, state, "hotel_boked")
    assert refusal.value.stable_code == "unknown_saga_event"


def test_a_state_of_another_definition_is_corrupt() -> None:
    """A stored step the table does not have is never guessed at."""
    with pytest.raises(CorruptData):
        advance(TRIP, SagaState("lodging"), "hotel_booked")


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_the_invariants_hold_for_any_events(events: list[str]) -> None:
    """I2 to I5 for any sequence of events, and the state survives JSON at every point."""
    state, effects = begin(TRIP)
    keys = [effect.key for effect in effects]
    for event in events:
        before = state
        state, effects = advance(TRIP, state, event)
        keys += [effect.key for effect in effects]
        assert len(keys) == len(set(keys))
        assert state.used <= state.seen
        assert state.version >= before.version
        assert not (before.ended and state is not before)
        assert not (before.compensating and not state.compensating)
        assert SagaState.from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize("broken", [{}, {"step": "hotel"}, {"step": "a", "version": "x"}])
def test_a_stored_state_that_is_broken_is_corrupt(broken: dict[str, object]) -> None:
    """A missing or mistyped member raises CorruptData, never a default."""
    with pytest.raises(CorruptData):
        SagaState.from_json(broken)
