"""Leader election on a lock: whoever holds it leads, with its token as the number of the term.

A candidate stands for ever: it waits for the office, leads until it loses it or the process ends,
and stands again. Two may believe that they lead at one moment; what they do must show the token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from month5_kvstore.locks.locks import LockLost, Locks
from month5_kvstore.locks.watchdog import Grasp, holding
from scalelab.clock import Clock
from scalelab.errors import DeadlineExceeded

_STANDS_S = 3600.0


async def stand(
    locks: Locks,
    office: str,
    candidate: str,
    *,
    ttl_s: float,
    lead: Callable[[Grasp], Awaitable[None]],
    clock: Clock,
    random: Random,
) -> None:
    """Stand for the office until cancelled. lead: runs while it is held, and is cancelled when it
    is lost; when it returns the office is laid down, and is stood for again."""
    while True:
        try:
            async with holding(
                locks,
                office,
                candidate,
                ttl_s=ttl_s,
                wait_s=_STANDS_S,
                clock=clock,
                random=random,
                longest_s=None,
            ) as grasp:
                await lead(grasp)
        except (LockLost, DeadlineExceeded):
            pass
        await asyncio.sleep(ttl_s * 0.1 * random.random())
