"""F1 to F5 on parts that do as they are told. Nobody sleeps: who is late never answers."""

from __future__ import annotations

import asyncio

import pytest

from month3_messaging.fan import (
    Gathered,
    HedgePolicy,
    Hedging,
    Part,
    ScatterSettings,
    Why,
    scatter,
)
from scalelab.clock import Clock, ManualClock, SystemClock
from scalelab.errors import InvalidInput, NotFound, Unavailable
from scalelab.resilience import Deadline

pytestmark = pytest.mark.anyio
LONG_S = 60.0
MACHINE = SystemClock()
SHORT_S = 0.05
"""Only for what never answers: nothing quick is judged by it."""


class Place:
    """Answers at once, fails, or never ends. Counts what was begun and what was cancelled."""

    def __init__(self, answer: int | Exception | None = 1) -> None:
        self.answer = answer
        self.begun = 0
        self.cancelled = 0

    async def __call__(self, _left_s: float) -> int:
        self.begun += 1
        if self.answer is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or 0


class Late(Place):
    """Lets the others go first, moves the clock past every limit, and never ends."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(None)
        self._clock = clock

    async def __call__(self, left_s: float) -> int:
        for _ in range(20):
            await asyncio.sleep(0)
        self._clock.advance(LONG_S)
        return await super().__call__(left_s)


async def ask(
    *parts: Part[int],
    deadline_s: float = LONG_S,
    part_timeout_s: float = LONG_S,
    at_once: int = 64,
    hedging: Hedging | None = None,
    clock: Clock = MACHINE,
) -> Gathered[int]:
    """One scatter, on the machine's clock if not told otherwise."""
    return await scatter(
        parts,
        deadline=Deadline.after(deadline_s, now_s=clock.monotonic_s()),
        clock=clock,
        settings=ScatterSettings(part_timeout_s, at_once),
        hedging=hedging,
    )


def hedging(delay_s: float, *, burst: float = 10.0, share: float = 0.0) -> Hedging:
    """A second request after exactly `delay_s`."""
    return Hedging(HedgePolicy(first_delay_s=delay_s, burst=burst, share=share))


async def test_every_part_is_either_answered_or_missing_with_its_reason() -> None:
    """F1: answered, late and failed side by side."""
    clock = ManualClock()
    gathered = await ask(
        Part("quick", Place(7)),
        Part("late", Late(clock)),
        Part("refused", Place(NotFound("no", code="unknown_product"))),
        Part("away", Place(Unavailable("gone"))),
        part_timeout_s=SHORT_S,
        clock=clock,
    )
    assert gathered.answers == {"quick": 7}
    reasons = {name: (one.why, one.code) for name, one in gathered.missing.items()}
    assert reasons == {
        "late": (Why.LATE, "part_late"),
        "refused": (Why.FAILED, "unknown_product"),
        "away": (Why.FAILED, "unavailable"),
    }


async def test_a_part_with_a_bug_takes_no_answer_away() -> None:
    """Its error is kept for a log; what a caller may tell is only `internal`."""
    bug = ZeroDivisionError("secret")
    gathered = await ask(Part("quick", Place(7)), Part("broken", Place(bug)))
    assert gathered.answers == {"quick": 7}
    missing = gathered.missing["broken"]
    assert (missing.why, missing.code, missing.error) == (Why.FAILED, "internal", bug)


async def test_after_the_deadline_nothing_is_sent() -> None:
    """F2: parts whose turn had not come are named so, and were never asked."""
    clock = ManualClock()
    stuck, waiting = Late(clock), Place(1)
    gathered = await ask(
        Part("stuck", stuck), Part("waiting", waiting), deadline_s=SHORT_S, at_once=1, clock=clock
    )
    assert gathered.missing["stuck"].why is Why.LATE
    assert gathered.missing["waiting"].why is Why.NOT_BEGUN
    assert (stuck.begun, stuck.cancelled, waiting.begun) == (1, 1, 0)


async def test_a_deadline_that_is_over_asks_nobody() -> None:
    """The caller's patience may be spent before we begin."""
    clock, place = ManualClock(), Place(1)
    gathered = await scatter([Part("one", place)], deadline=Deadline(0.0), clock=clock)
    assert (gathered.missing["one"].why, place.begun) == (Why.NOT_BEGUN, 0)


async def test_a_part_is_told_what_is_left() -> None:
    """The smaller of its own limit and the deadline, so that it may pass it on."""
    told: list[float] = []

    async def listen(left_s: float) -> int:
        told.append(left_s)
        return 1

    clock = ManualClock()
    for deadline_s, part_timeout_s in [(5.0, 2.0), (1.0, 2.0)]:
        await scatter(
            [Part("one", listen)],
            deadline=Deadline(deadline_s),
            clock=clock,
            settings=ScatterSettings(part_timeout_s),
        )
    assert told == [2.0, 1.0]


@pytest.mark.parametrize("at_once", [1, 3, 10])
async def test_no_more_parts_are_under_way_than_allowed(at_once: int) -> None:
    """F3: and as many as allowed, once there are enough."""
    under_way: set[int] = set()
    most = 0

    def part(number: int) -> Part[int]:
        async def busy(_left_s: float) -> int:
            nonlocal most
            under_way.add(number)
            most = max(most, len(under_way))
            for _ in range(5):
                await asyncio.sleep(0)
            under_way.remove(number)
            return number

        return Part(str(number), busy)

    gathered = await ask(*(part(number) for number in range(10)), at_once=at_once)
    assert (len(gathered.answers), most) == (10, at_once)


async def test_a_slow_part_is_asked_at_a_second_place_and_the_loser_is_cancelled() -> None:
    """F4."""
    slow, quick = Place(None), Place(2)
    gathered = await ask(Part("one", slow, quick), hedging=hedging(SHORT_S))
    assert (gathered.answers, gathered.hedged, gathered.rescued) == ({"one": 2}, 1, 1)
    assert (slow.cancelled, quick.begun) == (1, 1)


async def test_the_first_may_still_win_and_then_the_second_is_cancelled() -> None:
    """F4, the other way round."""
    second = Place(None)
    asked_again = asyncio.Event()

    async def first(_left_s: float) -> int:
        await asked_again.wait()
        return 1

    async def other(left_s: float) -> int:
        asked_again.set()
        return await second(left_s)

    gathered = await ask(Part("one", first, other), hedging=hedging(SHORT_S))
    assert (gathered.answers, gathered.hedged, gathered.rescued) == ({"one": 1}, 1, 0)
    assert second.cancelled == 1


async def test_a_quick_part_is_not_hedged() -> None:
    """Its second place hears nothing."""
    second = Place(2)
    gathered = await ask(Part("one", Place(1), second), hedging=hedging(LONG_S))
    assert (gathered.answers, gathered.hedged, second.begun) == ({"one": 1}, 0, 0)


async def test_a_place_that_is_away_sends_the_question_on_at_once() -> None:
    """No need to wait for the percentile; but an answer that says no is an answer."""
    moved, refused = Place(2), Place(2)
    gathered = await ask(
        Part("away", Place(Unavailable("gone")), moved),
        Part("unknown", Place(NotFound("no")), refused),
        hedging=hedging(LONG_S),
    )
    assert (gathered.answers, gathered.missing["unknown"].code) == ({"away": 2}, "not_found")
    assert (moved.begun, refused.begun) == (1, 0)


async def test_where_both_places_fail_the_part_failed() -> None:
    """Once, with the error of the last."""
    gathered = await ask(
        Part("one", Place(Unavailable("gone")), Place(Unavailable("x", code="too_few_parts"))),
        hedging=hedging(LONG_S),
    )
    assert gathered.missing["one"].code == "too_few_parts"


async def test_a_failed_hedge_does_not_end_the_first_request() -> None:
    """Slow and right beats quick and away."""
    failed = asyncio.Event()

    async def first(_left_s: float) -> int:
        await failed.wait()
        return 1

    async def away(_left_s: float) -> int:
        failed.set()
        raise Unavailable("gone")

    gathered = await ask(Part("one", first, away), hedging=hedging(SHORT_S))
    assert gathered.answers == {"one": 1}


async def test_the_budget_bounds_the_hedges_of_one_scatter() -> None:
    """F5: everything is slow, and the load is not doubled."""
    seconds = [Place(1) for _ in range(20)]
    parts = [Part(str(n), Place(None), second) for n, second in enumerate(seconds)]
    gathered = await ask(*parts, part_timeout_s=0.3, hedging=hedging(SHORT_S, burst=3.0, share=0.1))
    assert sum(second.begun for second in seconds) == gathered.hedged
    assert gathered.hedged <= 3 + 0.1 * 20
    assert len(gathered.answers) + len(gathered.missing) == 20


async def test_cancelled_from_outside_it_leaves_no_request_behind() -> None:
    """F2: whoever hangs up cancels all."""
    places = [Place(None) for _ in range(5)]
    everybody = asyncio.Event()

    async def last(left_s: float) -> int:
        everybody.set()  # begun in their order: the others are under way
        return await places[-1](left_s)

    parts = [Part(str(number), place) for number, place in enumerate(places[:-1])]
    task = asyncio.create_task(ask(*parts, Part("last", last)))
    await everybody.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [place.cancelled for place in places] == [1] * 5


async def test_a_name_that_comes_twice_is_refused() -> None:
    """One answer would hide the other."""
    place = Place(1)
    with pytest.raises(InvalidInput):
        await ask(Part("one", place), Part("one", place))
    assert place.begun == 0


async def test_no_parts_are_a_complete_answer() -> None:
    """Nobody was asked, nobody is missing."""
    gathered = await ask()
    assert gathered.complete


@pytest.mark.parametrize(("timeout_s", "at_once"), [(0.0, 1), (float("nan"), 1), (1.0, 0)])
async def test_settings_without_sense_are_refused(timeout_s: float, at_once: int) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidInput):
        ScatterSettings(timeout_s, at_once)
