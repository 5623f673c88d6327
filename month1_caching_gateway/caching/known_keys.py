"""A Bloom filter in front of keys that do not exist: somebody guesses ids, nobody is asked.

Theory of operation
    The filter holds every key of the source. "Surely not there" is answered at once; "perhaps"
    goes on to the cache. It must never lack a key that exists, and keys are made while it stands:
    whoever makes a key adds it (CacheAside does with every bust), other processes hear of it as a
    Listener of invalidation.py.

    `rebuild` reads all keys into a second filter while the first still answers. Keys made
    meanwhile are added to both, so none falls between the page that was read too early and the
    change of filters. Removed keys leave the filter only by a rebuild.

Invariants (tests cite them)
    I1  A key that was added, or that the source gave to the last rebuild, is never excluded.
    I2  Without a filter, when announcements are not heard in time, or were missed since the
        rebuild began, nothing is excluded: the filter only ever saves work.

Between another process's commit and its announcement a new key is still excluded here, as it
would be by a remembered absence. Source: Bloom 1970; scalelab/hashing/bloom.py has the bits.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Sequence

from scalelab.clock import Clock
from scalelab.errors import InvalidInput
from scalelab.hashing import BloomFilter, size_for


class KnownKeys:
    """capacity: keys the filter is sized for, >= 1; rebuild with more in time (`is_full`).

    is_told: other processes make keys too, and a listener tells of them; without it only this
    process may make keys.
    """

    def __init__(
        self, capacity: int, *, false_positive_rate: float = 0.01, clock: Clock, is_told: bool
    ) -> None:
        self._rate = false_positive_rate
        self._capacity = capacity
        self._sizing = size_for(capacity, false_positive_rate)
        self._held: BloomFilter | None = None
        self._coming: BloomFilter | None = None
        self._losses = 0
        self._now_s = clock.monotonic_s
        self._trusted_until_s = -math.inf if is_told else math.inf

    @property
    def is_ready(self) -> bool:
        """Whether anything is excluded now (I2)."""
        return self._held is not None and self._now_s() < self._trusted_until_s

    @property
    def is_full(self) -> bool:
        """More keys than it is sized for: others pass more often than the rate. Rebuild it."""
        return self._held is not None and self._held.added > self._capacity

    def excludes(self, key: str) -> bool:
        """True: the source surely has no such key. One hash, at most k bits."""
        held = self._held
        return held is not None and key not in held and self._now_s() < self._trusted_until_s

    def add(self, key: str) -> None:
        """A key was made, or may have been: call it before anybody may look for it (I1)."""
        for one in (self._held, self._coming):
            if one is not None and key not in one:
                one.add(key)

    async def rebuild(
        self, pages: AsyncIterable[Sequence[str]], *, capacity: int | None = None
    ) -> bool:
        """Read all keys of the source, page by page, and change over. Whether it did.

        capacity: a new size. False: announcements were missed meanwhile; do it again. Raises what
        `pages` raises, and then the old filter stands. One rebuild at a time.
        """
        if self._coming is not None:
            raise InvalidInput("a rebuild is under way", code="rebuild_under_way")
        if capacity is not None:
            self._capacity, self._sizing = capacity, size_for(capacity, self._rate)
        heard_before = self._now_s() < self._trusted_until_s
        losses = self._losses
        coming = self._coming = BloomFilter(self._sizing)
        try:
            async for page in pages:
                for key in page:
                    coming.add(key)
        finally:
            self._coming = None
        if not heard_before or losses != self._losses:
            return False
        self._held = coming
        return True

    def bust(self, key: str, version: int | None) -> None:
        """Another process wrote the key: it may be new."""
        self.add(key)

    def heard(self, trusted_until_s: float) -> None:
        """All new keys are told in time until that instant."""
        self._trusted_until_s = max(self._trusted_until_s, trusted_until_s)

    def lost(self) -> None:
        """New keys may have been missed: exclude nothing until the next rebuild."""
        self._held = None
        self._losses += 1
        self._trusted_until_s = -math.inf
