"""A pool of addresses belongs to one bed at a time.

Routes show a pool only once a network stands in it, which is too late for two beds that start at
the same time. So a bed locks the pool's file for as long as it lives; the kernel drops the lock
with the process, however that ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path
from typing import IO

from scalelab.errors import Conflict

_FOLDER = Path("/run/scalelab-pools")


class Reservation:
    """One pool, held until `release`."""

    def __init__(self, pool: IPv4Network, handle: IO[str]) -> None:
        self.pool = pool
        self._handle = handle

    def release(self) -> None:
        """Let another bed have it. Repeatable."""
        self._handle.close()


def reserve_one(pools: Iterable[IPv4Network]) -> Reservation:
    """The first of the pools that nobody holds. Raises Conflict if all are held."""
    for pool in pools:
        held = reserve(pool)
        if held is not None:
            return held
    raise Conflict("every address pool for containers is held by another bed")


def reserve(pool: IPv4Network) -> Reservation | None:
    """This pool, or None if another bed holds it."""
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    handle = (_FOLDER / str(pool.network_address)).open("w", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return Reservation(pool, handle)
