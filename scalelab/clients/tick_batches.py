"""What is asked in one turn of the event loop goes out as one request.

Theory of operation
    The price of a small remote question is the client's work per call, not the server's. So `ask`
    only appends to a list; the first one of a turn schedules a flush, and the flush sends the
    whole list, in batches of at most `max_batch`. No timer: a lone question waits for nobody.

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
        self._flush_is_due = False
        self._batches: set[asyncio.Task[None]] = set()

    def ask(self, question: Q) -> asyncio.Future[A]:
        """Put the question into this turn's batch; the answer comes with the batch.

        Raises Unavailable at once (nothing was sent) when too many questions wait.
        """
        if len(self._pending) >= self._max_pending:
            raise Unavailable(f"too many questions are waiting for {self._what}")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._pending.append((question, answer))
        if not self._flush_is_due:
            self._flush_is_due = True
            loop.call_soon(self._flush)
        return answer

    async def aclose(self) -> None:
        """Fail what was not sent yet; wait for the batches under way."""
        for _, answer in self._pending:
            _fail(answer, Unavailable(f"{self._what} is closed"))
        self._pending.clear()
        await asyncio.gather(*self._batches)

    def _flush(self) -> None:
        self._flush_is_due = False
        while self._pending and len(self._batches) < self._max_batches:
            size = min(self._max_batch, len(self._pending))
            batch = [self._pending.popleft() for _ in range(size)]
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._batches.add(task)
            task.add_done_callback(self._batch_done)

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if self._pending:
            self._flush()

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
