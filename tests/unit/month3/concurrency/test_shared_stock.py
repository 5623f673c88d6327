"""The race, made to happen, and the four that do not have it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from month3_messaging.concurrency import (
    Cell,
    ConfinedStock,
    LockedStock,
    RacyStock,
    Shelf,
    Stock,
    SwappedStock,
)
from scalelab.errors import InvalidInput, Unavailable

Make = Callable[[Shelf], Stock]


@pytest.fixture(params=["lock", "swap", "owner"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Each of the right ones, interrupted between its read and its write."""
    with ExitStack() as stack:

        def build(shelf: Shelf) -> Stock:
            if request.param == "lock":
                return LockedStock(shelf, give_way)
            if request.param == "swap":
                return SwappedStock(shelf, give_way)
            return stack.enter_context(ConfinedStock(shelf, give_way))

        yield build


def give_way() -> None:
    """Let another thread run here."""
    time.sleep(0)


def taken_by(threads: int, stock: Stock, times: int) -> int:
    """How many pieces the threads were promised in all."""
    promised = [0] * threads
    together = threading.Barrier(threads)

    def take(number: int) -> None:
        together.wait(30)
        for _ in range(times):
            promised[number] += stock.take(1)

    running = [threading.Thread(target=take, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(promised)


def test_the_racy_one_sells_the_last_piece_twice() -> None:
    """Two threads that meet between check and act: two promises, one piece."""
    meet = threading.Barrier(2)
    stock = RacyStock(Shelf(free=1), lambda: _meet(meet))
    assert taken_by(2, stock, 1) == 2
    assert stock.shelf() == Shelf(free=0, taken=1)


def _meet(barrier: threading.Barrier) -> None:
    barrier.wait(30)


def test_the_right_ones_promise_what_they_have(make: Make) -> None:
    """Eight threads want 160 of 100 pieces: 100 promises, 100 booked."""
    stock = make(Shelf(free=100))
    assert taken_by(8, stock, 20) == 100
    assert stock.shelf() == Shelf(free=0, taken=100)


def test_nobody_takes_nothing(make: Make) -> None:
    """And the owner's thread survives the question."""
    stock = make(Shelf(free=1))
    with pytest.raises(InvalidInput):
        stock.take(0)
    assert stock.take(1)


def test_a_swap_that_came_too_late_changes_nothing() -> None:
    """Compared by identity: an equal value that is another one is not the one that was read."""
    first, equal = Shelf(1, 0), Shelf(1, 0)
    cell = Cell(first)
    assert not cell.swap(equal, Shelf(0, 1))
    assert cell.get() is first
    assert cell.swap(first, equal)


def test_who_was_overtaken_begins_again() -> None:
    """One take while another is between its read and its swap: both happen, one retries."""
    overtaken = [True]

    def overtake() -> None:
        if overtaken:
            overtaken.clear()
            assert stock.take(1)

    stock = SwappedStock(Shelf(free=2), overtake)
    assert stock.take(1)
    assert (stock.shelf(), stock.retries) == (Shelf(free=0, taken=2), 1)


def test_an_owner_that_fails_tells_who_asked() -> None:
    """And goes on with the next."""
    failures = [RuntimeError("no")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    with ConfinedStock(Shelf(free=2), fail_once) as stock:
        with pytest.raises(RuntimeError):
            stock.take(1)
        assert stock.take(1)


def test_nobody_waits_for_an_owner_that_has_ended() -> None:
    """A clear error in place of an answer that never comes."""
    with ConfinedStock(Shelf(free=1)) as stock:
        pass
    with pytest.raises(Unavailable) as refused:
        stock.take(1)
    assert refused.value.stable_code == "owner_ended"
