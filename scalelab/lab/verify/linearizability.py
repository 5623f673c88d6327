"""Linearizability: could one copy, doing one thing at a time, have given all these answers?

A history is legal if every call can be put at one instant between its start and its end so that
the calls, in that order, answer as they did. Calls without an answer may have happened at any
instant after their start, or never.

The search places calls one by one and steps back from dead ends; what it has seen once (which
calls are placed, and the state they leave) it does not look at again. The worst case is
exponential, so there is a bound on its steps, and a history that exceeds it is not called legal:
unknown counts as failed. Keys are judged one by one, since linearizability is local.

Source: Wing and Gong 1993, "Testing and verifying concurrent objects", with the cache of Lowe
2017, "Testing for linearizability"; differs in: calls without an answer are kept in a set of their
own, so that the window of calls under consideration stays as small as the concurrency, and are
placed only where the very next call shows that they happened.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from scalelab.lab.verify.report import Check, Violation

STEPS_MAX = 500_000
"""Places tried for the calls of one key before the verdict is "unknown"."""


class Timed(Protocol):
    """A call with its interval on one clock. returned_at None: no answer came."""

    @property
    def called_at(self) -> float:
        """When its caller began it."""
        ...

    @property
    def returned_at(self) -> float | None:
        """When its caller had the answer."""
        ...


C = TypeVar("C", bound=Timed)
S = TypeVar("S", bound=Hashable)
Apply = Callable[[S, C], S | None]
"""The state after a call, or None if this state could not have answered it so."""


def _nothing(_: object) -> None:
    """What a call needs or makes where nothing is told of it."""


def linearizable(
    rule: str,
    history: Iterable[C],
    *,
    initial: S,
    apply: Apply[S, C],
    key: Callable[[C], Hashable],
    needs: Callable[[C], S | None] = _nothing,
    makes: Callable[[C], S | None] = _nothing,
    name: Callable[[C], str] = str,
    steps_max: int = STEPS_MAX,
) -> Check:
    """Judge the calls of each key against a sequential object that starts as `initial`.

    apply must be pure; for a call without an answer it gives the state as if the call happened.
    needs, makes: the one state in which a call can have been answered so, and the one that it
    leaves; None: several, or none. They only shorten the search: a state that somebody still
    needs and nobody can make again is not left. Where `needs` tells something, `makes` must tell
    of every call that may leave that state. name: a call in a few words, for the report.
    One violation a key at most.
    """
    by_key: dict[Hashable, list[C]] = {}
    for call in history:
        by_key.setdefault(key(call), []).append(call)
    found: list[Violation] = []
    examined = 0
    for one, calls in sorted(by_key.items(), key=lambda item: str(item[0])):
        examined += len(calls)
        search = _Search(calls, apply, needs, makes, steps_max)
        detail = search.complaint(initial, name)
        if detail is not None:
            found.append(Violation(rule, (str(one),), detail))
    return Check(rule, examined, tuple(found))


@dataclass(frozen=True, slots=True)
class _Place(Generic[S]):
    """A point of the search. first: all answered calls before it are placed. placed: bits of the
    others, from `first` on. silent: bits of the calls without an answer that are placed.
    before: the state before the last call if that was a silent one, else empty."""

    first: int
    placed: int
    silent: int
    state: S
    before: tuple[S, ...] = ()


class _Search(Generic[S, C]):
    """The calls of one key."""

    def __init__(
        self,
        calls: Sequence[C],
        apply: Apply[S, C],
        needs: Callable[[C], S | None],
        makes: Callable[[C], S | None],
        steps_max: int,
    ) -> None:
        ordered = sorted(calls, key=lambda call: call.called_at)
        self._answered = [call for call in ordered if call.returned_at is not None]
        self._silent = [call for call in ordered if call.returned_at is None]
        self._ends = [call.returned_at for call in self._answered if call.returned_at is not None]
        self._apply = apply
        self._steps_max = steps_max
        self._needed = _places(self._answered, needs)
        self._made = _places(self._answered, makes)
        self._looks_only = {
            index
            for index, call in enumerate(self._answered)
            if needs(call) is not None and makes(call) is None
        }
        self._made_silently = _places(self._silent, makes)

    def complaint(self, initial: S, name: Callable[[C], str]) -> str | None:
        """None if an order exists; else how far the best one came, or that nobody knows."""
        start = _Place(0, 0, 0, initial)
        stack, seen = [start], {start}
        best, best_count = start, -1
        steps = 0
        while stack:
            place = stack.pop()
            if place.first == len(self._answered):
                return None
            count = place.first + place.placed.bit_count()
            if count > best_count:
                best, best_count = place, count
            for following in self._following(place):
                steps += 1
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
            if steps > self._steps_max:
                return f"unknown: no verdict after {steps} steps, which counts as failed"
        return self._explain(best, best_count, name)

    def _following(self, place: _Place[S]) -> list[_Place[S]]:
        """Every place one call further, those by answered calls last (they are tried first).

        A call that needs this very state and leaves no other is placed at once: that forbids none.
        """
        open_calls, limit = self._open(place)
        found: list[_Place[S]] = []
        for index in open_calls:
            if index in self._looks_only and self._after(place, self._answered[index]) is not None:
                return [self._placed(place, index, place.state)]
        for index, call in enumerate(self._silent):
            if call.called_at > limit:
                break
            if place.silent >> index & 1:
                continue
            state = self._after(place, call)
            if state is not None and state != place.state and self._may_leave(place):
                silent = place.silent | 1 << index
                found.append(_Place(place.first, place.placed, silent, state, (place.state,)))
        for index in reversed(open_calls):
            state = self._after(place, self._answered[index])
            if state is not None:
                following = self._placed(place, index, state)
                if state == place.state or self._may_leave(place, following):
                    found.append(following)
        return found

    def _placed(self, place: _Place[S], index: int, state: S) -> _Place[S]:
        first, placed = place.first, place.placed | 1 << index - place.first
        while placed & 1:
            first, placed = first + 1, placed >> 1
        return _Place(first, placed, place.silent, state)

    def _may_leave(self, place: _Place[S], following: _Place[S] | None = None) -> bool:
        """Whether the state of `place` is needed by nobody any more, or can be made again."""
        after, state = following or place, place.state
        if all(_is_placed(after, index) for index in self._needed.get(state, ())):
            return True
        if any(not _is_placed(after, index) for index in self._made.get(state, ())):
            return True
        return any(not place.silent >> index & 1 for index in self._made_silently.get(state, ()))

    def _after(self, place: _Place[S], call: C) -> S | None:
        """The state after one more call; None if it does not fit, or would do so just as well
        without the silent call before it, which then need not have happened."""
        state = self._apply(place.state, call)
        if state is not None and place.before and self._apply(place.before[0], call) == state:
            return None
        return state

    def _open(self, place: _Place[S]) -> tuple[list[int], float]:
        """The answered calls that may be next, and the instant before which the next one is.

        A call may be next if it began before the first end of all that are not placed.
        """
        waiting: list[int] = []
        limit = float("inf")
        for index in range(place.first, len(self._answered)):
            if self._answered[index].called_at > limit:
                break
            if not place.placed >> index - place.first & 1:
                waiting.append(index)
                limit = min(limit, self._ends[index])
        return [index for index in waiting if self._answered[index].called_at <= limit], limit

    def _explain(self, place: _Place[S], count: int, name: Callable[[C], str]) -> str:
        waiting, _ = self._open(place)
        texts = "; ".join(name(self._answered[index]) for index in waiting[:4])
        return (
            f"no order explains all answers: the longest places {count} of {len(self._answered)} "
            f"calls and leaves {place.state!r}, where none of these fits: {texts}"
        )


def _is_placed(place: _Place[S], index: int) -> bool:
    return index < place.first or bool(place.placed >> index - place.first & 1)


def _places(calls: Sequence[C], state_of: Callable[[C], S | None]) -> dict[S, list[int]]:
    """Where the calls stand that need a state, or make it."""
    found: dict[S, list[int]] = {}
    for index, call in enumerate(calls):
        state = state_of(call)
        if state is not None:
            found.setdefault(state, []).append(index)
    return found
