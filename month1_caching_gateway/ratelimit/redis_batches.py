"""States in Redis: one count for all gateways, one script call for all questions of a tick.

Theory of operation
    The cost of a question is the client's work per call, not the script. So what is asked in one
    turn of the event loop goes out as one EVALSHA (scalelab/clients/tick_batches.py) of at most
    `max_batch` keys (a long script would hold up every other user of the server), with the
    arguments once where all are alike. No timer: an idle gateway adds no latency. The script reads
    the server's own TIME, therefore clocks of gateways never matter.

Guarantees
    Exact over all processes that share the server: the invariants of each algorithm's core. A
    batch that is not answered within `deadline_s` raises OutcomeUnknown: it may be counted. More
    than `max_pending` waiting questions raise Unavailable at once.

With Redis Cluster all keys of a batch must be in one slot; give each slot its own store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import resources
from typing import Any, Generic, Protocol, TypeVar, cast

import redis.asyncio as redis_asyncio
from redis.exceptions import NoScriptError

from month1_caching_gateway.ratelimit.algorithm import Algorithm
from month1_caching_gateway.ratelimit.token_bucket import Decision
from scalelab.clients.redis import map_errors
from scalelab.clients.tick_batches import TickBatches
from scalelab.errors import OutcomeUnknown, ScalelabError, Unavailable

Q = TypeVar("Q")


class _ScriptCalls(Protocol):
    """The two calls we make; redis-py leaves their types open."""

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: str) -> list[int | bytes]: ...
    async def script_load(self, script: str) -> str: ...


_Check = tuple[str, tuple[str, ...]]
"""Key and arguments."""


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
        self._script = script_text(algorithm)
        self._sha: str | None = None
        self._batches: TickBatches[_Check, Decision] = TickBatches(
            self._send,
            what="the rate limiter's store",
            max_batch=max_batch,
            max_batches=max_batches,
            max_pending=max_pending,
        )

    def ask(self, key: str, question: Q) -> asyncio.Future[Decision]:
        """Put the question into this turn's batch; the answer comes with the batch.

        Raises InvalidInput and, with too many waiting, Unavailable (not counted) at once; the
        future raises Unavailable or OutcomeUnknown (perhaps counted).
        """
        self._algorithm.check(question)
        return self._batches.ask((key, self._algorithm.pack(question)))

    async def answer(self, key: str, question: Q) -> Decision:
        """As `ask`, for whoever can wait; at once, if nobody shares."""
        self._algorithm.check(question)
        return await self._batches.answer((key, self._algorithm.pack(question)))

    async def aclose(self) -> None:
        """Wait for the batches under way; each ends by its deadline. Checks not yet sent fail."""
        await self._batches.aclose()

    async def _send(self, batch: Sequence[_Check]) -> list[Decision]:
        try:
            async with asyncio.timeout(self._deadline_s):
                with map_errors():
                    raw = await self._run_script(batch)
        except TimeoutError as error:
            raise OutcomeUnknown(f"Redis did not answer in {self._deadline_s} s") from error
        except (Unavailable, OutcomeUnknown):
            raise
        except ScalelabError as error:
            raise Unavailable(f"Redis refused the rate check: {error}") from error
        return [
            Decision(raw[at] == 1, float(raw[at + 1]), float(raw[at + 2]))
            for at in range(0, 3 * len(batch), 3)
        ]

    async def _run_script(self, batch: Sequence[_Check]) -> list[int | bytes]:
        keys = [self._prefix + key for key, _ in batch]
        first = batch[0][1]
        arguments = list(first)
        if any(given != first for _, given in batch):
            arguments = [one for _, given in batch for one in given]
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
