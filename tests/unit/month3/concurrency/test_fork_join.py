"""Fork and join over real processes: all parts, or the first failure."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.concurrency import fork_join, fork_join_threads, split_evenly
from scalelab.errors import InvalidInput, OutcomeUnknown, Unavailable

LONG_S = 60.0


def square(number: int) -> tuple[int, int]:
    """The answer, and which process had it."""
    return number * number, os.getpid()


def end_process(number: int) -> int:
    """Die at number 0."""
    if number == 0:
        os.kill(os.getpid(), 9)
    return number


def wait_for_ever(folder: Path) -> None:
    """Say who waits."""
    (folder / str(os.getpid())).touch()
    threading.Event().wait()


@given(st.integers(-1000, 1000), st.integers(1, 2000), st.data())
def test_ranges_cover_all_numbers_once(low: int, length: int, data: st.DataObject) -> None:
    """Without gap or overlap, and their lengths differ by one at most."""
    parts = data.draw(st.integers(1, length))
    ranges = split_evenly(low, low + length, parts)
    assert [n for a, b in ranges for n in range(a, b)] == list(range(low, low + length))
    lengths = {b - a for a, b in ranges}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("high", "parts"), [(3, 0), (3, 4)])
def test_what_cannot_be_split_is_refused(high: int, parts: int) -> None:
    """An empty part would be a worker for nothing."""
    with pytest.raises(InvalidInput):
        split_evenly(0, high, parts)


def test_answers_come_in_the_order_of_their_parts() -> None:
    """From processes that are not this one."""
    answers = fork_join(square, list(range(20)), workers=2, timeout_s=LONG_S)
    assert [answer for answer, _ in answers] == [n * n for n in range(20)]
    assert os.getpid() not in {process for _, process in answers}


def test_a_killed_worker_is_an_error_with_a_name() -> None:
    """In place of a join that waits for ever."""
    with pytest.raises(Unavailable) as died:
        fork_join(end_process, [0, 1, 2], workers=2, timeout_s=LONG_S)
    assert died.value.stable_code == "worker_died"


def test_at_the_deadline_the_workers_are_killed(tmp_path: Path) -> None:
    """None of them waits on behind the caller's back."""
    with pytest.raises(OutcomeUnknown):
        fork_join(wait_for_ever, [tmp_path], workers=1, timeout_s=5.0)
    for worker in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker.name), 0)


def test_after_a_failure_no_part_is_begun() -> None:
    """The only thread fails at once, then runs what it had already taken, and no more."""
    begun: list[int] = []
    failed = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            failed.set()
            raise ArithmeticError("the first part fails")
        # The join needs a moment to hear of it; what runs meanwhile takes its time.
        threading.Event().wait(0.02)

    with pytest.raises(ArithmeticError):
        fork_join_threads(work, list(range(2000)), workers=1, timeout_s=LONG_S)
    assert failed.is_set()
    assert len(begun) < 2000
