"""Group commit: many appenders, one flush at a time, everybody waits for the flush that has theirs.

Theory of operation
    While a flush is under way, what arrives waits. When it ends, all that waits goes into the next
    one, up to a bound. Nobody waits for a timer: a lone appender is flushed at once, and a busy
    log writes larger batches by itself, for as long as the disk is the slow part.

Invariants (tests cite them)
    B1  One flush at a time; batches keep the order of arrival, and everything is in one batch.
    B2  What waits never exceeds the bound by more than one item; more is refused, not taken.
    B3  After `stop` nothing is taken and nothing is flushed, ever.

Source: DeWitt et al. 1984, "Implementation techniques for main memory database systems".
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from month5_kvstore.log.errors import LogQueueFull, LogStopped
from scalelab.errors import InvariantBroken

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """What waits, in order. batch_bytes: of one flush, at least one item. waiting_bytes: of all."""

    def __init__(self, *, batch_bytes: int = 4 << 20, waiting_bytes: int = 64 << 20) -> None:
        self._batch_bytes = batch_bytes
        self._waiting_bytes = waiting_bytes
        self._waiting: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._is_flushing = False
        self.stopped: str | None = None
        """Why nothing is taken any more."""

    @property
    def is_flushing(self) -> bool:
        """Whether a batch was given out and has not come back."""
        return self._is_flushing

    def offer(self, item: T, size_bytes: int) -> None:
        """Let `item` wait for a flush. Raises LogQueueFull, LogStopped; then it was not taken."""
        if self.stopped is not None:
            raise LogStopped(self.stopped)
        if self._bytes >= self._waiting_bytes:
            raise LogQueueFull(f"{self._bytes} bytes wait to be written", retry_after_s=0.1)
        self._waiting.append((item, size_bytes))
        self._bytes += size_bytes

    def next_batch(self) -> list[T]:
        """What to flush now; empty if nothing waits or a flush is under way (B1)."""
        if self._is_flushing or self.stopped is not None or not self._waiting:
            return []
        batch: list[T] = []
        size = 0
        while self._waiting and (not batch or size + self._waiting[0][1] <= self._batch_bytes):
            item, item_bytes = self._waiting.popleft()
            batch.append(item)
            size += item_bytes
        self._bytes -= size
        self._is_flushing = True
        return batch

    def flushed(self) -> None:
        """The flush under way has ended, well or refused whole."""
        if not self._is_flushing:
            raise InvariantBroken("no flush is under way")
        self._is_flushing = False

    def drain(self) -> list[T]:
        """Everything that waits, taken out: it will not be flushed."""
        left = [item for item, _ in self._waiting]
        self._waiting.clear()
        self._bytes = 0
        return left

    def stop(self, why: str) -> list[T]:
        """Take nothing any more (B3); returns what waited."""
        self.stopped = self.stopped or why
        return self.drain()
