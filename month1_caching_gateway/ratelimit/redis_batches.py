"""States in Redis: one count for all gateways, one script call for all questions of a tick.

Theory of operation
    The cost of a question is the client's work per call, not the script. So `ask` only appends to
    a list; the first one of an event-loop tick begins a task, which sends the whole list as one
    EVALSHA of at most `max_batch` keys (a long script would hold up every other user of the
    server), with the arguments once where all are alike. No timer: an idle gateway adds no latency.
    The script reads the server's own TIME, therefore clocks of gateways never matter.

Guarantees
    Exact over all processes that share the server: the invariants of each algorithm's core. A
    batch that is not answered within `deadline_s` raises OutcomeUnknown: it may be counted. More
    than `max_pending` waiting questions raise Unavailable at once.

With Redis Cluster all keys of a batch must be in one slot; give each slot its own store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Generic, Protocol, TypeVar, cast

import redis.asyncio as redis_asyncio
from redis.exceptions import NoScriptError

from month1_caching_gateway.ratelimit.algorithm import Algorithm
from month1_caching_gateway.ratelimit.token_bucket import Decision
from scalelab.clients.redis import map_errors
from scalelab.errors import OutcomeUnknown, ScalelabError, Unavailable

Q = TypeVar("Q")


class _ScriptCalls(Protocol):
    """The two calls we make; redis-py leaves their types open."""

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: str) -> list[int | bytes]: ...
    async def script_load(self, script: str) -> str: ...


@dataclass(frozen=True, slots=True)
class _Check:
    key: str
    arguments: tuple[str, ...]
    answer: asyncio.Future[Decision]


class RedisBatches(Generic[Q]):
    """States under `prefix` in one Redis server. Owned by whoever opened it; `aclose` waits.

    client: its own connection pool of at least `max_batches` connections; not closed here.
    """

    def __init__(
        self,
        client: redis_asyncio.Redis,
        algorithm: Algorithm[Q, Any],
        *,
        prefix: str = "ratelimit:",
        deadline_s: float = 0.05,
        max_batch: int = 256,
        max_batches: int = 4,
        max_pending: int = 8192,
    ) -> None:
        self._client = cast(_ScriptCalls, client)
        self._algorithm = algorithm
        self._prefix = prefix
        self._deadline_s = deadline_s
        self._max_batch = max_batch
        self._max_batches = max_batches
        self._max_pending = max_pending
        self._script = script_text(algorithm)
        self._sha: str | None = None
        self._pending: deque[_Check] = deque()
        self._flush_is_due = False
        self._batches: set[asyncio.Task[None]] = set()

    def ask(self, key: str, question: Q) -> asyncio.Future[Decision]:
        """Put the question into this tick's batch; the answer comes with the batch.

        Raises InvalidInput and, with too many waiting, Unavailable (not counted) at once; the
        future raises Unavailable or OutcomeUnknown (perhaps counted).
        """
        self._algorithm.check(question)
        if len(self._pending) >= self._max_pending:
            raise Unavailable("too many rate checks are waiting for Redis")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Decision] = loop.create_future()
        self._pending.append(_Check(key, self._algorithm.pack(question), answer))
        if not self._flush_is_due:
            self._flush_is_due = True
            self._begin_batch()
        return answer

    async def aclose(self) -> None:
        """Wait for the batches under way; each ends by its deadline. Checks not yet sent fail."""
        for check in self._pending:
            _fail(check, Unavailable("the rate limiter's store is closed"))
        self._pending.clear()
        await asyncio.gather(*self._batches)

    def _begin_batch(self) -> None:
        """A task's first step comes after this tick: until then checks are only collected."""
        if len(self._batches) < self._max_batches:
            task = asyncio.get_running_loop().create_task(self._send_pending())
            self._batches.add(task)
            task.add_done_callback(self._batch_done)

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if self._pending:
            self._begin_batch()

    async def _send_pending(self) -> None:
        size = min(self._max_batch, len(self._pending))
        batch = [self._pending.popleft() for _ in range(size)]
        self._flush_is_due = bool(self._pending)
        if self._flush_is_due:
            self._begin_batch()
        if batch:
            await self._send(batch)

    async def _send(self, batch: Sequence[_Check]) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                with map_errors():
                    raw = await self._run_script(batch)
            for at, check in enumerate(batch):
                if not check.answer.done():
                    admitted, remaining, wait_s = raw[3 * at : 3 * at + 3]
                    check.answer.set_result(
                        Decision(admitted == 1, float(remaining), float(wait_s))
                    )
        except TimeoutError as error:
            late = OutcomeUnknown(f"Redis did not answer in {self._deadline_s} s")
            late.__cause__ = error
            _fail_all(batch, late)
        except (Unavailable, OutcomeUnknown) as error:
            _fail_all(batch, error)
        except ScalelabError as error:
            refused = Unavailable(f"Redis refused the rate check: {error}")
            refused.__cause__ = error
            _fail_all(batch, refused)
        except BaseException:
            _fail_all(batch, OutcomeUnknown("the rate check was cancelled after sending"))
            raise

    async def _run_script(self, batch: Sequence[_Check]) -> list[int | bytes]:
        keys = [self._prefix + check.key for check in batch]
        first = batch[0].arguments
        arguments = list(first)
        if any(check.arguments != first for check in batch):
            arguments = [one for check in batch for one in check.arguments]
        if self._sha is None:
            self._sha = await self._client.script_load(self._script)
        try:
            return await self._client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            # The server restarted or its script cache was flushed; nothing was counted yet.
            self._sha = await self._client.script_load(self._script)
            return await self._client.evalsha(self._sha, len(keys), *keys, *arguments)


def script_text(algorithm: Algorithm[Any, Any]) -> str:
    """The algorithm's Lua script, from the file beside this one."""
    folder = resources.files("month1_caching_gateway.ratelimit")
    return folder.joinpath(algorithm.script).read_text("utf-8")


def _fail(check: _Check, error: Exception) -> None:
    if not check.answer.done():
        check.answer.set_exception(error)


def _fail_all(batch: Sequence[_Check], error: Exception) -> None:
    for check in batch:
        _fail(check, error)
