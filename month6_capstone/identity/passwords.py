"""Password hashes by argon2id, computed in a bounded pool of threads.

Hashing is meant to be slow and to take memory; on the event loop it would stop every other
request. The pool bounds both: `workers` hashes at a time, `queue` waiting, the next is refused
with Overloaded at once. argon2-cffi lets go of the interpreter lock while it computes.

`verify` takes as long for an account that does not exist as for one that does: it checks against
a hash nobody knows the password of.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from scalelab.errors import CorruptData, Overloaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Costs:
    """Argon2id parameters. memory_kib: KiB per hash; passes over it; lanes computed in parallel.

    The defaults are the smallest set that OWASP's password storage page names (19 MiB, 2, 1).
    """

    memory_kib: int = 19_456
    passes: int = 2
    lanes: int = 1


def hash_password(password: str, costs: Costs) -> str:
    """The encoded argon2id hash of a normalized password. Blocks for tens of milliseconds."""
    return _hasher(costs).hash(password)


class PasswordPool:
    """Hashes and verifies off the loop; an async context manager that owns its threads."""

    def __init__(self, costs: Costs, *, workers: int = 2, queue: int = 64) -> None:
        self._hasher = _hasher(costs)
        self._places = threading.BoundedSemaphore(workers + queue)
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="argon2")
        self._judged = 0
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe(32))

    async def __aenter__(self) -> PasswordPool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Waits for the hashes under way, at most one per worker.
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    @property
    def judged(self) -> int:
        """Passwords compared with a hash so far, right or wrong, known account or not."""
        return self._judged

    async def hash(self, password: str) -> str:
        """The encoded hash. Raises Overloaded when the queue is full; nothing was changed."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored_hash: str | None, password: str) -> bool:
        """Whether the password is the hash's; None (no such account) is always False, as slowly.

        Raises Overloaded when the queue is full, CorruptData when the stored hash is none.
        """
        judged = stored_hash or self._nobodys_hash
        right = await self._run(lambda: self._matches(judged, password))
        self._judged += 1
        return right and stored_hash is not None

    def _matches(self, stored_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored_hash, password)
        except VerifyMismatchError:
            return False
        except (InvalidHashError, VerificationError) as error:
            raise CorruptData("a stored password hash is not readable") from error

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many logins at once; try again shortly", code="login_queue_full")
        future = self._threads.submit(work)
        # The place is free when the thread is done, not when the caller gives up: the work goes on.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)


def _hasher(costs: Costs) -> PasswordHasher:
    return PasswordHasher(
        time_cost=costs.passes, memory_cost=costs.memory_kib, parallelism=costs.lanes
    )
