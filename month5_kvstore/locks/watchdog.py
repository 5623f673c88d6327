"""Hold a lock around a piece of work: renewed while the work goes on, stopped when it is lost.

Theory of operation
    Beside the work a watchdog renews the hold three times per lease. The hold counts from the
    moment a renewal was asked for, on this process's clock, so it ends here before it ends at the
    service. When the service says that it is lost, or that moment passes without a renewal, or the
    work takes longer than it may in all, the work is cancelled and the caller is told LockLost.

Invariants (tests cite them)
    W1  The work does not outlast its hold by more than the event loop's own delay.
    W2  Work that never ends gives the lock up after `longest_s`.

What this does not do: stop a process that stands still. It wakes up in the middle of the work,
and may do one more thing before the watchdog bites. The fence is for that one thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from random import Random

from month5_kvstore.locks.locks import Hold, LockLost, Locks
from scalelab.clock import Clock
from scalelab.errors import DeadlineExceeded, Retryable

_RENEWALS = 3
_PAUSE_S = (0.02, 0.5)


class Grasp:
    """A hold and how long it is certain. Made by `holding`."""

    def __init__(self, hold: Hold, *, clock: Clock, ttl_s: float, begun_s: float) -> None:
        self.hold = hold
        self.renewals = 0
        self._clock = clock
        self._ttl_s = ttl_s
        self._until_s = begun_s + ttl_s

    @property
    def token(self) -> int:
        """To be shown to whatever the lock protects."""
        return self.hold.token

    @property
    def left_s(self) -> float:
        """Seconds for which nobody else can have it, as far as this process's clock tells."""
        return self._until_s - self._clock.monotonic_s()

    def check(self) -> None:
        """Raises LockLost if the time is over. No more than a courtesy: see the module."""
        if self.left_s <= 0:
            raise LockLost(f"{self.hold.name} was not renewed in time")

    async def renew(self) -> None:
        """Once. Raises what `Hold.renew` raises."""
        begun_s = self._clock.monotonic_s()
        await self.hold.renew()
        self._until_s = begun_s + self._ttl_s
        self.renewals += 1


@asynccontextmanager
async def holding(
    locks: Locks,
    name: str,
    holder: str,
    *,
    ttl_s: float,
    wait_s: float,
    clock: Clock,
    random: Random,
    longest_s: float | None = 3600.0,
    renew_every_s: float | None = None,
) -> AsyncGenerator[Grasp, None]:
    """The lock while the block runs. wait_s: for others to be done. longest_s: the block may take;
    None: for ever.

    Raises DeadlineExceeded if it could not be had in time, LockLost if the block lost it and was
    cancelled. random: jitter between attempts, so that waiters do not come together.
    """
    grasp = await _grasp(locks, name, holder, ttl_s, wait_s, clock, random)
    work = asyncio.current_task()
    assert work is not None
    every_s = ttl_s / _RENEWALS if renew_every_s is None else renew_every_s
    lost: list[LockLost] = []

    async def watch() -> None:
        try:
            async with asyncio.timeout(longest_s):
                await _keep(grasp, every_s)
        except TimeoutError:
            lost.append(LockLost(f"{name} was held for {longest_s} s, as long as it may be"))
        except LockLost as error:
            lost.append(error)
        work.cancel()

    watchdog = asyncio.create_task(watch(), name=f"watchdog of {name}")
    try:
        yield grasp
    except asyncio.CancelledError:
        if lost and work.uncancel() <= 0:
            raise lost[0] from None
        raise
    finally:
        watchdog.cancel()
        await asyncio.wait([watchdog])
        with suppress(Retryable):  # then it ends by itself
            await grasp.hold.release()


async def _grasp(
    locks: Locks,
    name: str,
    holder: str,
    ttl_s: float,
    wait_s: float,
    clock: Clock,
    random: Random,
) -> Grasp:
    end_s = clock.monotonic_s() + wait_s
    pause_s = _PAUSE_S[0]
    problem: Retryable | None = None
    while True:
        begun_s = clock.monotonic_s()
        try:
            hold = await locks.acquire(name, holder, ttl_s=ttl_s)
        except Retryable as error:
            hold, problem = None, error
        if hold is not None:
            return Grasp(hold, clock=clock, ttl_s=ttl_s, begun_s=begun_s)
        waits_s = pause_s * (0.5 + random.random())
        if clock.monotonic_s() + waits_s > end_s:
            said = problem.message if problem else "somebody else has it"
            raise DeadlineExceeded(f"no {name} within {wait_s} s: {said}", code="lock_busy")
        await asyncio.sleep(waits_s)
        pause_s = min(_PAUSE_S[1], pause_s * 1.5)


async def _keep(grasp: Grasp, every_s: float) -> None:
    """Renew for ever. Raises LockLost."""
    while True:
        await asyncio.sleep(min(every_s, max(0.0, grasp.left_s)))
        try:
            async with asyncio.timeout(max(0.0, grasp.left_s)):
                await grasp.renew()
        except (Retryable, TimeoutError):
            grasp.check()
