"""The coordinator in every state that losses, doubles, late messages and crashes can lead to.

The network is a set of messages that were sent: any of them may arrive at any time, any number of
times, or never. Together with crashes of the coordinator and of participants and with recoveries
at any moment that is a finite graph, and it is walked whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from scalelab.commit import (
    Acknowledged,
    Answer,
    Branch,
    Coordination,
    Effect,
    Event,
    Finish,
    Forget,
    Outcome,
    OutOfTime,
    Phase,
    Prepare,
    Record,
    Recorded,
    Vote,
    Voted,
    begin,
    decide,
    finish,
    prepare,
    recover,
    step,
)
from scalelab.errors import InvalidInput, InvariantBroken

COMMIT, ABORT = Outcome.COMMIT, Outcome.ABORT
Step = Callable[[Coordination, Event], tuple[Coordination, tuple[Effect, ...]]]
Message = tuple[str, str, str]
"""To whom (a participant, `coordinator`, `recovery`, `register`), what, and about whom."""


@dataclass(frozen=True)
class World:
    """One state of everything. coordinator, recovery: None when not there. told: the client."""

    coordinator: Coordination | None
    branches: tuple[Branch, ...]
    register: Outcome | None = None
    recovery: Coordination | None = None
    sent: frozenset[Message] = frozenset()
    told: Outcome | None = None
    crashed: bool = False


class Walk:
    """All worlds that can be reached. able: which participants can promise to commit."""

    def __init__(self, able: tuple[bool, ...], rule: Step = step) -> None:
        self._able = able
        self._rule = rule
        self._names = tuple(f"p{n}" for n in range(len(able)))

    def worlds(self) -> Iterator[World]:
        state, effects = begin(self._names)
        start = World(state, (Branch.WORKING,) * len(self._able))
        frontier = [self._carry_out(start, "coordinator", effects)]
        seen = set(frontier)
        while frontier:
            world = frontier.pop()
            yield world
            for after in self._next(world):
                if after not in seen:
                    seen.add(after)
                    frontier.append(after)

    def settled(self, world: World) -> World:
        """The same world after a crash of the coordinator and one undisturbed recovery (I4)."""
        world = replace(world, coordinator=None, recovery=None)
        doubt = self._in_doubt(world)
        if not doubt:
            return world
        state, effects = recover(doubt)
        pending = list(effects)
        while pending:
            match pending.pop(0):
                case Record(outcome):
                    world = replace(world, register=decide(world.register, outcome))
                    assert world.register is not None
                    state, effects = step(state, Recorded(world.register))
                case Finish(participant, outcome):
                    world = self._finished(world, participant, outcome)
                    state, effects = step(state, Acknowledged(participant))
                case _:
                    effects = ()
            pending.extend(effects)
        return world

    def _next(self, world: World) -> Iterator[World]:
        for message in sorted(world.sent):
            yield from self._deliver(world, message)
        for who in ("coordinator", "recovery"):
            yield from self._told(world, who, OutOfTime())
        if not world.crashed:
            yield replace(world, coordinator=None, crashed=True)
        for place, branch in enumerate(world.branches):
            if branch is Branch.WORKING:  # a crash of the participant, or its own change of mind
                yield self._with(world, place, Branch.ABORTED)
        if world.recovery is None and (doubt := self._in_doubt(world)):
            state, effects = recover(doubt)
            yield self._carry_out(replace(world, recovery=state), "recovery", effects)

    def _deliver(self, world: World, message: Message) -> Iterator[World]:
        to, what, about = message
        match what:
            case "prepare":
                place = self._names.index(to)
                branch, vote = prepare(world.branches[place], able=self._able[place])
                yield self._post(self._with(world, place, branch), ("coordinator", vote.value, to))
            case "commit" | "abort" if to != "register":
                yield self._post(
                    self._finished(world, to, Outcome(what)), (about, "acknowledged", to)
                )
            case "commit" | "abort":
                held = decide(world.register, Outcome(what))
                yield self._post(replace(world, register=held), (about, f"holds {held}", ""))
            case "acknowledged":
                yield from self._told(world, to, Acknowledged(about))
            case "holds commit" | "holds abort":
                yield from self._told(world, to, Recorded(Outcome(what.split()[1])))
            case _:
                yield from self._told(world, to, Voted(about, Vote(what)))

    def _told(self, world: World, who: str, event: Event) -> Iterator[World]:
        state = world.coordinator if who == "coordinator" else world.recovery
        if state is None:
            return
        if isinstance(event, Acknowledged) and event.participant not in state.participants:
            return
        after, effects = self._rule(state, event)
        yield self._carry_out(replace(world, **{who: after}), who, effects)

    def _carry_out(self, world: World, who: str, effects: tuple[Effect, ...]) -> World:
        for effect in effects:
            match effect:
                case Prepare(participant):
                    world = self._post(world, (participant, "prepare", ""))
                case Record(outcome):
                    world = self._post(world, ("register", outcome.value, who))
                case Finish(participant, outcome):
                    world = self._post(world, (participant, outcome.value, who))
                case Answer(outcome):
                    assert world.told in (None, outcome), "the client was told two outcomes"
                    world = replace(world, told=outcome)
                case Forget():
                    assert all(b is Branch.COMMITTED for b in world.branches), "I5"
        return world

    def _finished(self, world: World, who: str, outcome: Outcome) -> World:
        place = self._names.index(who)
        return self._with(world, place, finish(world.branches[place], outcome))

    def _in_doubt(self, world: World) -> tuple[str, ...]:
        pairs = zip(self._names, world.branches, strict=True)
        return tuple(name for name, branch in pairs if branch is Branch.PREPARED)

    @staticmethod
    def _with(world: World, place: int, branch: Branch) -> World:
        branches = (*world.branches[:place], branch, *world.branches[place + 1 :])
        return replace(world, branches=branches)

    @staticmethod
    def _post(world: World, message: Message) -> World:
        return replace(world, sent=world.sent | {message})


def check(walk: Walk) -> tuple[int, set[Outcome | None]]:
    """I1 to I5 in every world; returns how many there were, and what the register came to hold."""
    count, held = 0, set[Outcome | None]()
    for world in walk.worlds():
        count += 1
        held.add(world.register)
        committed = Branch.COMMITTED in world.branches
        assert not (committed and Branch.ABORTED in world.branches), world
        if committed or world.told is COMMIT:
            assert world.register is COMMIT, world
        settled = walk.settled(world)
        assert Branch.PREPARED not in settled.branches, world
        ends = set(settled.branches) - {Branch.WORKING}
        assert len(ends) <= 1, (world, settled)
        if world.told is not None and ends:
            assert (ends == {Branch.COMMITTED}) == (world.told is COMMIT), (world, settled)
    return count, held


@pytest.mark.parametrize("able", [(True,), (True, True), (True, False), (False, False)])
def test_no_order_of_messages_and_crashes_splits_a_transaction(able: tuple[bool, ...]) -> None:
    """I1 to I5 in every reachable world; both outcomes are reached where both are possible."""
    count, held = check(Walk(able))
    assert count > 10
    assert (COMMIT in held) == all(able)


def test_without_the_register_the_walk_finds_the_split() -> None:
    """The planted bug: COMMIT is told as soon as all have voted, and a recovery presumes abort."""

    def hasty(state: Coordination, event: Event) -> tuple[Coordination, tuple[Effect, ...]]:
        after, effects = step(state, event)
        if effects == (Record(COMMIT),) and not state.recovering:
            return step(after, Recorded(COMMIT))
        return after, effects

    with pytest.raises((AssertionError, InvariantBroken)):
        check(Walk((True, True), hasty))


def test_a_coordinator_that_gives_up_while_deciding_is_found_out() -> None:
    """The planted bug: out of time in DECIDING aborts, though the record may stand already."""

    def impatient(state: Coordination, event: Event) -> tuple[Coordination, tuple[Effect, ...]]:
        if state.phase is Phase.DECIDING and isinstance(event, OutOfTime) and not state.recovering:
            return step(replace(state, phase=Phase.PREPARING), event)
        return step(state, event)

    with pytest.raises((AssertionError, InvariantBroken)):
        check(Walk((True, True), impatient))


def voted(*votes: Vote) -> tuple[Coordination, tuple[Effect, ...]]:
    names = [f"p{n}" for n in range(len(votes))]
    state, effects = begin(names)
    for name, vote in zip(names, votes, strict=True):
        state, effects = step(state, Voted(name, vote))
    return state, effects


def test_a_commit_is_recorded_before_anybody_is_told() -> None:
    """I3: the last vote orders the record and nothing else."""
    state, effects = voted(Vote.YES, Vote.YES)
    assert (state.phase, effects) == (Phase.DECIDING, (Record(COMMIT),))
    _, effects = step(state, Recorded(COMMIT))
    assert effects == (Answer(COMMIT), Finish("p0", COMMIT), Finish("p1", COMMIT))


def test_a_coordinator_whose_commit_came_too_late_aborts() -> None:
    """A recovery won the register while the coordinator was only slow."""
    state, _ = voted(Vote.YES, Vote.YES)
    _, effects = step(state, Recorded(ABORT))
    assert effects == (Answer(ABORT), Finish("p0", ABORT), Finish("p1", ABORT))


def test_an_abort_writes_nothing() -> None:
    """Presumed abort: a no and a time-out go straight to the participants."""
    _, effects = voted(Vote.YES, Vote.NO)
    assert effects == (Answer(ABORT), Finish("p0", ABORT))
    _, effects = step(begin(["p0", "p1"])[0], OutOfTime())
    assert effects == (Answer(ABORT), Finish("p0", ABORT), Finish("p1", ABORT))


def test_readers_are_left_out_of_the_second_phase() -> None:
    """READ_ONLY votes need no decision; with readers only there is none to record."""
    state, _ = voted(Vote.READ_ONLY, Vote.YES)
    _, effects = step(state, Recorded(COMMIT))
    assert effects == (Answer(COMMIT), Finish("p1", COMMIT))
    state, effects = voted(Vote.READ_ONLY, Vote.READ_ONLY)
    assert (state.phase, effects) == (Phase.DONE, (Answer(COMMIT),))


def test_who_does_not_acknowledge_is_told_again() -> None:
    """Until the last one has, and only then the record may go."""
    state, _ = voted(Vote.YES, Vote.YES)
    state, _ = step(state, Recorded(COMMIT))
    state, effects = step(state, Acknowledged("p0"))
    assert effects == ()
    assert step(state, OutOfTime())[1] == (Finish("p1", COMMIT),)
    state, effects = step(state, Acknowledged("p1"))
    assert (state.phase, effects) == (Phase.DONE, (Forget(),))


def test_a_yes_that_comes_after_the_abort_is_answered() -> None:
    """Whoever prepared late must not stay in doubt."""
    state, _ = step(begin(["p0", "p1"])[0], Voted("p0", Vote.NO))
    state, _ = step(state, Acknowledged("p1"))
    assert state.phase is Phase.DONE
    state, effects = step(state, Voted("p1", Vote.YES))
    assert effects == (Finish("p1", ABORT),)


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_no_participants_or_one_twice_is_refused(names: list[str]) -> None:
    """For a new transaction and for a recovery."""
    with pytest.raises(InvalidInput):
        begin(names)
    with pytest.raises(InvalidInput):
        recover(names)


@pytest.mark.parametrize("event", [Voted("x", Vote.YES), Acknowledged("x")])
def test_a_stranger_is_refused(event: Event) -> None:
    """With a code, and the state is as it was."""
    with pytest.raises(InvalidInput) as refusal:
        step(begin(["a"])[0], event)
    assert refusal.value.stable_code == "unknown_participant"


@pytest.mark.parametrize(
    ("branch", "outcome"),
    [(Branch.WORKING, COMMIT), (Branch.ABORTED, COMMIT), (Branch.COMMITTED, ABORT)],
)
def test_a_branch_never_does_the_opposite(branch: Branch, outcome: Outcome) -> None:
    """B1: it stops instead."""
    with pytest.raises(InvariantBroken):
        finish(branch, outcome)
