"""Two threads add one each. How many of the possible orders lose an update?

Three ways to ask. First all orders of the steps, counted: no luck involved. Then real threads that
are made to meet between the read and the write. Then real threads left alone, whose answer depends
on the build of Python and the hour, which is why it carries no claim.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from month3_messaging.concurrency import (
    ConfinedStock,
    LockedStock,
    Outcomes,
    RacyStock,
    Shelf,
    Step,
    Stock,
    SwappedStock,
    explore,
)
from month3_messaging.experiments.python_builds import NOT_HERE, TwoThreads, ask, builds
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

MOST_THREADS = 4
THREADS = 2


@dataclass(slots=True)
class Memory:
    """What the modelled threads share, and what each has read."""

    number: int = 0
    held_by: int | None = None
    read: dict[int, int] = field(default_factory=dict[int, int])
    swapped: set[int] = field(default_factory=set[int])


def racy(thread: int) -> list[Step[Memory]]:
    """Read, then write."""

    def read(memory: Memory) -> None:
        memory.read[thread] = memory.number

    def write(memory: Memory) -> None:
        memory.number = memory.read[thread] + 1

    return [Step(read), Step(write)]


def locked(thread: int) -> list[Step[Memory]]:
    """The same between taking a lock and giving it back."""

    def take(memory: Memory) -> None:
        memory.held_by = thread

    def give(memory: Memory) -> None:
        memory.held_by = None

    return [Step(take, lambda memory: memory.held_by is None), *racy(thread), Step(give)]


def swapping(thread: int, tries: int) -> list[Step[Memory]]:
    """Read, then write if nobody else has; with n threads n tries are enough."""

    def read(memory: Memory) -> None:
        memory.read[thread] = memory.number

    def swap(memory: Memory) -> None:
        if thread not in memory.swapped and memory.number == memory.read[thread]:
            memory.number += 1
            memory.swapped.add(thread)

    return [Step(read), Step(swap)] * tries


def run(lab: Lab) -> Result:
    """Count the schedules, then let threads meet, then let them run."""
    lab.note("all schedules")
    racy_by_threads = {
        threads: _all([racy(number) for number in range(threads)])
        for threads in range(1, MOST_THREADS + 1)
    }
    with_lock = _all([locked(number) for number in range(MOST_THREADS - 1)])
    with_swap = _all([swapping(number, THREADS) for number in range(THREADS)])
    lab.note("threads that meet between read and write")
    rounds = 200 if lab.quick else 2000
    taken = _meeting(rounds)
    lab.note("threads left alone")
    alone = [ask(python, 200_000) for python in builds()]
    return Result(
        arms=(
            Arm(
                "read, then write",
                "control",
                {"schedules": 6, "lose": _losing(racy_by_threads[2], 2)},
                tuple((n, _percent(seen, n)) for n, seen in racy_by_threads.items()),
            ),
            Arm(
                "theory, 1 - n! 2^n / (2n)!",
                "theory",
                {},
                tuple((n, 100 - 100 / _chance(n)) for n in racy_by_threads),
            ),
            _none_lost("under a lock", with_lock, MOST_THREADS - 1),
            _none_lost("compare and swap", with_swap, THREADS),
            *(
                Arm(f"threads: {name}", "control" if name == "racy" else "treatment", figures)
                for name, figures in taken.items()
            ),
            *(Arm(one.name, "limit", _alone(one)) for one in alone),
        ),
        shape=_claims(racy_by_threads, with_lock, with_swap, taken, rounds),
        plot=Plot(Axis("threads"), Axis("schedules that lose an update (%)")),
        notes=(
            "Threads left alone: what is lost there depends on where an interpreter switches.",
            *([NOT_HERE] if all(one.gil for one in alone) else []),
        ),
    )


def _all(programs: Sequence[Sequence[Step[Memory]]]) -> Outcomes[int]:
    return explore(Memory, programs, lambda memory: memory.number)


def _losing(seen: Outcomes[int], threads: int) -> int:
    return seen.total - seen.ended.get(threads, 0)


def _percent(seen: Outcomes[int], threads: int) -> float:
    return 100 * _losing(seen, threads) / seen.total


def _chance(threads: int) -> float:
    """One schedule in so many keeps every update: (2n)! / 2^n orders, n! of them serial."""
    return math.factorial(2 * threads) / (2**threads * math.factorial(threads))


def _none_lost(name: str, seen: Outcomes[int], threads: int) -> Arm:
    figures = {"schedules": seen.total, "lose": _losing(seen, threads)}
    return Arm(name, "treatment", figures, ((threads, _percent(seen, threads)),))


def _meeting(rounds: int) -> dict[str, dict[str, int]]:
    """Two threads take a piece each, `rounds` times. The racy ones always meet in the middle; the
    others are made to let somebody else run there."""
    meet = threading.Barrier(THREADS)
    full = Shelf(THREADS * rounds)

    def let_run() -> None:
        time.sleep(0)

    with ExitStack() as stack:
        confined = stack.enter_context(ConfinedStock(full, let_run))
        stocks: dict[str, Stock] = {
            "racy": RacyStock(full, lambda: _wait(meet)),
            "lock": LockedStock(full, let_run),
            "compare and swap": SwappedStock(full, let_run),
            "one owner": confined,
        }
        return {name: _drive(stock, rounds) for name, stock in stocks.items()}


def _wait(meet: threading.Barrier) -> None:
    meet.wait(60)


def _drive(stock: Stock, rounds: int) -> dict[str, int]:
    said_yes = [0] * THREADS
    start = threading.Barrier(THREADS)

    def take(thread: int) -> None:
        for _ in range(rounds):
            start.wait(60)
            said_yes[thread] += stock.take(1)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promised = sum(said_yes)
    return {
        "promised": promised,
        "booked": stock.shelf().taken,
        "lost": promised - stock.shelf().taken,
    }


def _alone(one: TwoThreads) -> dict[str, int]:
    return {"promised": 2 * one.rounds, "lost": one.lost}


def _claims(
    racy_by_threads: dict[int, Outcomes[int]],
    with_lock: Outcomes[int],
    with_swap: Outcomes[int],
    taken: dict[str, dict[str, int]],
    rounds: int,
) -> tuple[Claim, ...]:
    two = racy_by_threads[2]
    fixed = {name: figures["lost"] for name, figures in taken.items() if name != "racy"}
    return (
        Claim(
            "of two threads' six schedules four lose an update",
            (two.total, _losing(two, 2)) == (6, 4),
            f"{_losing(two, 2)} of {two.total}",
        ),
        Claim(
            "the share of losing schedules grows with the threads as 1 - n! 2^n / (2n)!",
            all(
                math.isclose(_percent(seen, n), 100 - 100 / _chance(n))
                for n, seen in racy_by_threads.items()
            ),
            f"{[round(_percent(seen, n), 2) for n, seen in racy_by_threads.items()]} %",
        ),
        Claim(
            "no schedule loses one under a lock or with compare-and-swap, and none gets stuck",
            _losing(with_lock, MOST_THREADS - 1) == _losing(with_swap, THREADS) == 0
            and with_lock.stuck == with_swap.stuck == 0,
            f"0 of {with_lock.total} and {with_swap.total}",
        ),
        Claim(
            "threads that meet between read and write lose every second update, exactly",
            taken["racy"]["lost"] == rounds,
            f"{taken['racy']['lost']} of {taken['racy']['promised']} lost",
        ),
        Claim(
            "with a lock, compare-and-swap or one owner none is lost",
            not any(fixed.values()),
            f"{fixed}",
        ),
    )


EXPERIMENT = Experiment(
    slug="shared-state-race",
    question="How often does an update get lost when two threads change one number?",
    varied="read then write; a lock; compare-and-swap on an immutable value; one owning thread",
    fixed="two threads, one piece a time, the same places where they may be interrupted",
    run=run,
    topics=("P3.2",),
)
