"""Count primes by several processes. What decides how much faster it can be?

The join waits for the longest part. Larger numbers cost more divisions, so ranges of equal length
are parts of unequal cost; more and smaller parts even it out. The cost is counted in divisions,
so the bound on the speed-up (all divisions / those of the busiest worker) is exact.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from month3_messaging.concurrency import fork_join, fork_join_threads, split_evenly
from month3_messaging.experiments.prime_ranges import (
    Counted,
    Errand,
    Part,
    count_primes,
    end_process,
    run_errand,
)
from scalelab.errors import Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

WORKERS = 4
PRIMES_BELOW = {100_000: 9592, 400_000: 33_860}
"""Known from tables."""
ERRANDS = 400
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Seen:
    """cpu_s: of this process, wall_s: by the clock; both for this process alone."""

    parts: int
    answers: list[Counted]
    cpu_s: float
    wall_s: float

    @property
    def primes(self) -> int:
        return sum(one.primes for one in self.answers)

    @property
    def divisions(self) -> int:
        return sum(one.divisions for one in self.answers)

    @property
    def bound(self) -> float:
        """Speed-up with WORKERS workers, if each takes the next part when it is free."""
        return self.divisions / max(loads(one.divisions for one in self.answers))


def loads(costs: Iterable[int]) -> list[int]:
    """What each of the workers has to do when parts are handed out in order to whoever is free."""
    busy = [0] * WORKERS
    for cost in costs:
        busy[busy.index(min(busy))] += cost
    return busy


def run(lab: Lab) -> Result:
    """The same numbers once alone, then in 4, 8, 16 and 64 parts, then by threads."""
    most = min(PRIMES_BELOW) if lab.quick else max(PRIMES_BELOW)
    alone = _measured(lambda parts: [count_primes(part) for part in parts], most, 1)
    forked: list[Seen] = []
    for parts in (4, 8, 16, 64):
        lab.note(f"{parts} parts")
        forked.append(_measured(_by_processes, most, parts))
    lab.note("by threads")
    threads = _measured(_by_threads, most, 4)
    lab.note("a part that fails, a worker that dies")
    begun, died = _failing(lab), _dying()
    return Result(
        arms=(
            Arm("alone", "control", _figures(alone), ((1, 1.0),)),
            Arm(
                f"{WORKERS} processes",
                "treatment",
                _figures(forked[-1]),
                tuple((one.parts, round(one.bound, 3)) for one in forked),
            ),
            Arm(f"{WORKERS} threads, one interpreter", "treatment", _figures(threads)),
            Arm(
                "limit: the workers",
                "limit",
                {},
                tuple((one.parts, float(WORKERS)) for one in forked),
            ),
        ),
        shape=_claims(most, alone, forked, threads, begun, died),
        plot=Plot(Axis("parts", log=True), Axis("speed-up at most (all / busiest worker)")),
        notes=(
            f"{os.cpu_count()} cores: seconds by the clock are shown and judge nothing.",
            "A process costs an interpreter's start; parts must be worth more than that.",
        ),
    )


Joined = Callable[[Sequence[Part]], list[Counted]]


def _by_processes(parts: Sequence[Part]) -> list[Counted]:
    return fork_join(count_primes, parts, workers=WORKERS, timeout_s=_TIMEOUT_S)


def _by_threads(parts: Sequence[Part]) -> list[Counted]:
    return fork_join_threads(count_primes, parts, workers=WORKERS, timeout_s=_TIMEOUT_S)


def _measured(join: Joined, most: int, parts: int) -> Seen:
    ranges = [Part(low, high) for low, high in split_evenly(0, most, parts)]
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    answers = join(ranges)
    return Seen(parts, answers, time.process_time() - cpu_s, time.perf_counter() - wall_s)


def _failing(lab: Lab) -> int:
    """How many of ERRANDS were begun although the first failed at once."""
    folder = lab.folder / "errands"
    folder.mkdir(exist_ok=True)
    for mark in folder.iterdir():
        mark.unlink()
    errands = [Errand(number, folder) for number in range(ERRANDS)]
    try:
        fork_join(run_errand, errands, workers=2, timeout_s=_TIMEOUT_S)
    except ArithmeticError:
        return len(list(folder.iterdir()))
    raise AssertionError("the first part's failure was not raised")


def _dying() -> str:
    try:
        fork_join(end_process, [0, 1], workers=2, timeout_s=_TIMEOUT_S)
    except Unavailable as error:
        return error.stable_code
    return "nothing"


def _figures(seen: Seen) -> dict[str, int | float]:
    return {
        "parts": seen.parts,
        "primes": seen.primes,
        "divisions": seen.divisions,
        "processes": len({one.process for one in seen.answers}),
        "bound": round(seen.bound, 2),
        "wall_s": round(seen.wall_s, 2),
    }


def _claims(
    most: int, alone: Seen, forked: list[Seen], threads: Seen, begun: int, died: str
) -> tuple[Claim, ...]:
    everybody = [alone, *forked, threads]
    ratio = threads.cpu_s / threads.wall_s
    return (
        Claim(
            "every way finds all primes with the same divisions: nothing is lost or done twice",
            all(
                (one.primes, one.divisions) == (PRIMES_BELOW[most], alone.divisions)
                for one in everybody
            ),
            f"{[one.primes for one in everybody]}",
        ),
        Claim(
            "equal ranges are unequal work: 4 parts allow about 3 times, 64 parts nearly 4",
            forked[0].bound < 3.2 < 3.8 < forked[-1].bound,
            f"{[round(one.bound, 2) for one in forked]}",
        ),
        Claim(
            "a failing part ends the whole before all parts have begun",
            1 <= begun < ERRANDS,
            f"{begun} of {ERRANDS} begun",
        ),
        Claim(
            "a worker that is killed is an error with a name, not a join that waits for ever",
            died == "worker_died",
            died,
        ),
        Claim(
            "threads under one interpreter lock compute one at a time",
            ratio <= 1.3 or not _locked(),
            f"{ratio:.2f} processor seconds a second",
        ),
    )


def _locked() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


EXPERIMENT = Experiment(
    slug="fork-join",
    question="What bounds the speed-up of a work that is split over processes?",
    varied="the number of parts: 4, 8, 16, 64; processes or threads",
    fixed="the numbers, the algorithm, four workers",
    run=run,
    topics=("P3.4",),
)
