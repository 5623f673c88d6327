"""Every order in which the steps of several programs can be taken. Pure.

Theory of operation
    A program is a list of steps; a step is indivisible. n programs of k steps have
    (n k)! / (k!)^n schedules. Running all of them turns "it happens sometimes" into a count: so
    many schedules end right, so many do not. A step that must wait (a lock is taken) is not
    enabled, and a schedule that would take it there does not exist.

Invariants (tests cite them)
    I1  Each schedule keeps every program's own order.
    I2  No schedule comes twice, and none is missing.

Source: Lamport 1979 (sequential consistency); this is model checking at its smallest. What it
cannot show are the orders that no interleaving explains: see Visibility.java.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scalelab.errors import InvalidInput

S = TypeVar("S")
O = TypeVar("O")  # noqa: E741 -- an outcome

MOST_SCHEDULES = 200_000


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """One indivisible step. enabled: whether it can be taken now; a blocked program waits."""

    take: Callable[[S], None]
    enabled: Callable[[S], bool] = lambda _state: True


@dataclass(frozen=True, slots=True)
class Outcomes(Generic[O]):
    """How many schedules ended in which outcome. stuck: those in which nobody could go on."""

    ended: Mapping[O, int]
    stuck: int

    @property
    def total(self) -> int:
        """All schedules."""
        return sum(self.ended.values()) + self.stuck


def schedules(lengths: Sequence[int]) -> Generator[tuple[int, ...]]:
    """Every order of the programs' steps, as program numbers, for steps that never wait."""
    if not any(lengths):
        yield ()
        return
    for program, left in enumerate(lengths):
        if left:
            rest = [*lengths[:program], left - 1, *lengths[program + 1 :]]
            for tail in schedules(rest):
                yield (program, *tail)


def explore(
    start: Callable[[], S],
    programs: Sequence[Sequence[Step[S]]],
    outcome: Callable[[S], O],
    *,
    most: int = MOST_SCHEDULES,
) -> Outcomes[O]:
    """Run all schedules from a fresh state each and count their outcomes.

    Cost: as many runs as there are schedules. Raises InvalidInput beyond `most`.
    """
    ended: Counter[O] = Counter()
    stuck = 0
    todo: list[tuple[int, ...]] = [()]
    while todo:
        taken = todo.pop()
        state, at = _replay(start(), programs, taken)
        unfinished = [n for n, steps in enumerate(programs) if at[n] < len(steps)]
        ready = [n for n in unfinished if programs[n][at[n]].enabled(state)]
        if not unfinished:
            ended[outcome(state)] += 1
        elif not ready:
            stuck += 1
        todo += [(*taken, n) for n in ready]
        if sum(ended.values()) + stuck > most:
            raise InvalidInput("too many schedules; take fewer or shorter programs")
    return Outcomes(dict(ended), stuck)


def _replay(
    state: S, programs: Sequence[Sequence[Step[S]]], taken: Sequence[int]
) -> tuple[S, list[int]]:
    at = [0] * len(programs)
    for program in taken:
        programs[program][at[program]].take(state)
        at[program] += 1
    return state, at
