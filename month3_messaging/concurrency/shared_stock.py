"""Pieces on a shelf, taken by many threads: the race, and four ways not to have it.

    RacyStock      reads, then writes: between the two somebody else may do the same
    LockedStock    one at a time
    SwappedStock   an immutable value replaced whole, if it is still the one that was read
    ConfinedStock  one thread owns the state; others send it messages

`between` is called after the read and before the write. It is where a test makes two threads meet:
a race that needs luck to be seen proves nothing, neither when it is seen nor when it is not.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from scalelab.errors import InvalidInput, Unavailable

T = TypeVar("T")
Between = Callable[[], None]


def _nothing() -> None:
    """The usual `between`."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """free and taken, in pieces; their sum never changes."""

    free: int
    taken: int = 0

    def after_taking(self, pieces: int) -> Shelf | None:
        """The shelf without them, or None if there are not enough. Raises InvalidInput."""
        if pieces < 1:
            raise InvalidInput(f"nobody takes {pieces} pieces", field="pieces")
        if pieces > self.free:
            return None
        return replace(self, free=self.free - pieces, taken=self.taken + pieces)


class Stock(Protocol):
    """What all of them offer."""

    def take(self, pieces: int) -> bool:
        """Take that many, or none and False. Raises InvalidInput below 1."""
        ...

    def shelf(self) -> Shelf:
        """The state of one moment."""
        ...


class RacyStock:
    """The mistake: check and act are two steps. Updates are lost; the last piece sells twice."""

    def __init__(self, shelf: Shelf, between: Between = _nothing) -> None:
        self._shelf = shelf
        self._between = between

    def take(self, pieces: int) -> bool:
        after = self._shelf.after_taking(pieces)
        if after is None:
            return False
        self._between()
        self._shelf = after
        return True

    def shelf(self) -> Shelf:
        return self._shelf


class LockedStock:
    """Check and act under one lock. What is slow (I/O, callbacks) does not belong into it."""

    def __init__(self, shelf: Shelf, between: Between = _nothing) -> None:
        self._shelf = shelf
        self._between = between
        self._lock = threading.Lock()

    def take(self, pieces: int) -> bool:
        with self._lock:
            after = self._shelf.after_taking(pieces)
            if after is None:
                return False
            self._between()
            self._shelf = after
            return True

    def shelf(self) -> Shelf:
        with self._lock:
            return self._shelf


class Cell(Generic[T]):
    """One value with compare-and-swap, as a processor or a database row with a version has it.

    Python has no such instruction to offer: the comparison and the exchange stand under a lock
    that is held for these two lines only. Compares by identity, so a value that went away and came
    back as an equal one counts as changed.
    """

    def __init__(self, value: T) -> None:
        self._value = value
        self._lock = threading.Lock()

    def get(self) -> T:
        """The value now."""
        return self._value

    def swap(self, expected: T, value: T) -> bool:
        """Put `value` if the cell still holds `expected`; else change nothing and say False."""
        with self._lock:
            if self._value is not expected:
                return False
            self._value = value
            return True


class SwappedStock:
    """Optimistic: work on the value that was read, and begin again if somebody was faster.

    retries: how often that was so. Of the threads that try at once, one always succeeds.
    """

    def __init__(self, shelf: Shelf, between: Between = _nothing) -> None:
        self._cell = Cell(shelf)
        self._between = between
        self._retries = Cell(0)

    @property
    def retries(self) -> int:
        """Swaps that came too late so far."""
        return self._retries.get()

    def take(self, pieces: int) -> bool:
        while True:
            before = self._cell.get()
            after = before.after_taking(pieces)
            if after is None:
                return False
            self._between()
            if self._cell.swap(before, after):
                return True
            _add_one(self._retries)

    def shelf(self) -> Shelf:
        return self._cell.get()


class ConfinedStock:
    """No sharing at all: one thread has the shelf, the rest ask it. Use it as a context."""

    def __init__(self, shelf: Shelf, between: Between = _nothing, *, waiting: int = 1000) -> None:
        self._shelf = shelf
        self._between = between
        self._asked: queue.Queue[tuple[int, Future[bool]] | None] = queue.Queue(waiting)
        self._owner = threading.Thread(target=self._own, name="stock-owner")
        self._closing = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        self._owner.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._closing:
            self._closed = True
            self._asked.put(None)
        self._owner.join()

    def take(self, pieces: int) -> bool:
        """Waits for the owner's answer. Raises InvalidInput, and Unavailable once it is closed."""
        answer: Future[bool] = Future()
        with self._closing:  # nothing is asked behind the last message
            if self._closed:
                raise Unavailable("the stock's owner has ended", code="owner_ended")
            self._asked.put((pieces, answer))
        return answer.result()

    def shelf(self) -> Shelf:
        """A finished, immutable value: safe to look at from anywhere."""
        return self._shelf

    def _own(self) -> None:
        while (asked := self._asked.get()) is not None:
            pieces, answer = asked
            try:
                answer.set_result(self._take(pieces))
            except Exception as error:  # noqa: BLE001 -- it belongs to whoever asked
                answer.set_exception(error)

    def _take(self, pieces: int) -> bool:
        after = self._shelf.after_taking(pieces)
        if after is None:
            return False
        self._between()
        self._shelf = after
        return True


def _add_one(cell: Cell[int]) -> None:
    while not cell.swap(before := cell.get(), before + 1):
        pass
