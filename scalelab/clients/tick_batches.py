"""What is asked in one turn of the event loop goes out as one request.

Theory of operation
    The price of a small remote question is the client's work per call, not the server's. So `ask`
    only appends to a list; the first one of a turn begins a task, whose first step comes after
    this turn and sends the whole list, in batches of at most `max_batch`. No timer.

    Where nobody shares, the task and the turn are a price for nothing. So after `_LONE` questions
    in a row that travelled alone, `answer` sends the next at once, in its caller's own task; the
    first question that meets another one ends that.

Guarantees
    Every future ends: with its answer, or with the error its batch was given. At most
    `max_batches` are under way; beyond `max_pending` waiting questions `ask` raises Unavailable.
    A question is sent once; nothing is repeated here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from scalelab.errors import OutcomeUnknown, ScalelabError, Unavailable

Q = TypeVar("Q")
A = TypeVar("A")

Send = Callable[[Sequence[Q]], Awaitable[Sequence[A]]]
"""One request for many questions: an answer for each, in order, or a ScalelabError for all."""

_LONE = 8


class TickBatches(Generic[Q, A]):
    """Questions to one server. what: names it in errors, `the cache's store`."""

    def __init__(
        self,
        send: Send[Q, A],
        *,
        what: str,
        max_batch: int = 256,
        max_batches: int = 4,
        max_pending: int = 8192,
    ) -> None:
        self._send_batch = send
        self._what = what
        self._max_batch = max_batch
        self._max_batches = max_batches
        self._max_pending = max_pending
        self._pending: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._collecting: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._lone = 0
        self._at_once = False
        self._at_once_ended: asyncio.Future[None] | None = None

    def ask(self, question: Q) -> asyncio.Future[A]:
        """Put the question into this turn's batch; the answer comes with the batch.

        Raises Unavailable at once (nothing was sent) when too many questions wait.
        """
        if len(self._pending) >= self._max_pending:
            raise Unavailable(f"too many questions are waiting for {self._what}")
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._pending.append((question, answer))
        if self._at_once:
            self._lone = 0
        self._begin_batch()
        return answer

    async def answer(self, question: Q) -> A:
        """As `ask`, for whoever can wait. Raises what the batch was given.

        Who is cancelled while its question travels at once takes the request with it.
        """
        if self._lone < _LONE or self._at_once or not self._is_idle():
            return await self.ask(question)
        self._at_once = True
        try:
            (answer,) = await self._send_batch((question,))
        finally:
            self._at_once = False
            if self._at_once_ended is not None:
                self._at_once_ended.set_result(None)
                self._at_once_ended = None
            if self._pending:
                self._begin_batch()
        return answer

    async def aclose(self) -> None:
        """Fail what was not sent yet; wait for what is under way."""
        for _, answer in self._pending:
            _fail(answer, Unavailable(f"{self._what} is closed"))
        self._pending.clear()
        await asyncio.gather(*self._batches)
        if self._at_once:
            if self._at_once_ended is None:
                self._at_once_ended = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._at_once_ended])

    def _is_idle(self) -> bool:
        """A task whose answers were just given is done, and leaves the set a moment later."""
        return not self._pending and all(task.done() for task in self._batches)

    def _begin_batch(self) -> None:
        """A task's first step comes after this turn: until then questions are only collected."""
        if self._collecting is None and len(self._batches) + self._at_once < self._max_batches:
            task = asyncio.get_running_loop().create_task(self._send_pending())
            self._collecting = task
            self._batches.add(task)
            task.add_done_callback(self._batch_done)

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if self._collecting is task:
            self._collecting = None  # cancelled before its first step
        if self._pending:
            self._begin_batch()

    async def _send_pending(self) -> None:
        self._collecting = None
        size = min(self._max_batch, len(self._pending))
        batch = [self._pending.popleft() for _ in range(size)]
        self._lone = self._lone + 1 if size == 1 else 0
        if self._pending:
            self._begin_batch()
        if batch:
            await self._send(batch)

    async def _send(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._send_batch([question for question, _ in batch])
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)
        except ScalelabError as error:
            for _, waiting in batch:
                _fail(waiting, error)
        except BaseException:
            for _, waiting in batch:
                _fail(waiting, OutcomeUnknown(f"a batch for {self._what} was cancelled"))
            raise


def _fail(waiting: asyncio.Future[A], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
