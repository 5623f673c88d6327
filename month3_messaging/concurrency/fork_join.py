"""Fork and join: split a work, do the parts side by side, put the answers together.

Theory of operation
    The join waits for the longest part, so the speed-up is at most total work / longest part,
    whatever the number of workers; what cannot be split (Amdahl) adds to every part. Processes,
    because threads of an interpreter with a global lock take turns at computing.
    The first part that fails ends the whole: parts that wait are taken back, parts that run end
    unheard. A worker that dies (kill -9, out of memory) is a failure like any other.

Source: Conway 1963, "A multiprocessor system design"; Amdahl 1967. Differs from
`Executor.map` in: one deadline for all, and no part is begun after another failed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_EXCEPTION,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from typing import TypeVar

from scalelab.errors import InvalidInput, OutcomeUnknown, Unavailable

P = TypeVar("P")
R = TypeVar("R")


def split_evenly(low: int, high: int, parts: int) -> list[tuple[int, int]]:
    """low..high (without high) in `parts` ranges whose lengths differ by one at most.

    Raises InvalidInput if there are fewer than one part or fewer numbers than parts.
    """
    length = high - low
    if parts < 1 or length < parts:
        raise InvalidInput(f"{length} numbers do not make {parts} parts", field="parts")
    borders = [low + length * number // parts for number in range(parts + 1)]
    return list(pairwise(borders))


def fork_join(
    work: Callable[[P], R], parts: Sequence[P], *, workers: int, timeout_s: float
) -> list[R]:
    """The answers of all parts in their order, worked out by `workers` processes.

    work, parts and answers must be picklable: `work` is a module's function. Raises what the first
    failing part raises, Unavailable code `worker_died` if a process ended, and OutcomeUnknown if
    `timeout_s` passed; the processes are then killed.
    """
    # `spawn`: a forked copy of a process with threads may hold a lock that nobody releases.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    processes = pool._processes  # the executor forgets them when it is shut down
    try:
        return _join(pool, work, parts, timeout_s)
    except BrokenProcessPool as error:
        raise Unavailable("a worker died with a part of the work", code="worker_died") from error
    except OutcomeUnknown:
        for process in list(processes.values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fork_join_threads(
    work: Callable[[P], R], parts: Sequence[P], *, workers: int, timeout_s: float
) -> list[R]:
    """As `fork_join`, by threads of this process; a time-out waits for parts that have begun."""
    with ThreadPoolExecutor(workers, thread_name_prefix="fork-join") as pool:
        try:
            return _join(pool, work, parts, timeout_s)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _join(pool: Executor, work: Callable[[P], R], parts: Sequence[P], timeout_s: float) -> list[R]:
    futures: list[Future[R]] = [pool.submit(work, part) for part in parts]
    done, pending = wait(futures, timeout=timeout_s, return_when=FIRST_EXCEPTION)
    failed = next((future for future in futures if future in done and future.exception()), None)
    if failed is not None:
        for future in pending:
            future.cancel()
        return [failed.result()]  # raises
    if pending:
        raise OutcomeUnknown(
            f"{len(pending)} of {len(futures)} parts had no answer in {timeout_s} s"
        )
    return [future.result() for future in futures]
