"""Session guarantees on a store that gives none: a token says what its holder must be shown.

Theory of operation
    The token is a small map: key -> lowest version that may be shown (versions as in history.py).
    A read that comes back older is refused and asked again elsewhere. A write takes a version
    above all the token knows, so it can lose to nothing its writer has seen. Which lines the token
    keeps is which guarantee it gives:

        own writes                      read your writes, monotonic writes of a key
        what was read                   monotonic reads, writes follow reads of a key
        what a read value came with     causal: values carry the token their writer had

    Handed to somebody else with a message, the token makes the receiver's reads follow the
    sender's writes. It grows by one line a key that its holder has touched, and says nothing of
    keys that nobody touched: it buys an order, not freshness.

Absent on purpose: cutting the token down. Real systems do by remembering one number per replica
(a vector clock, a log position) in the place of one per key.
Source: Terry et al. 1994, "Session guarantees for weakly consistent replicated data"; Lloyd et al.
2011, "Don't settle for eventual" (dependencies carried by values).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag


class Guarantee(Flag):
    """What a session is to be given; combine with `|`."""

    NONE = 0
    READ_YOUR_WRITES = 1
    MONOTONIC_READS = 2
    CAUSAL = 7
    """Both, and what the writers of the values read had seen."""


@dataclass(frozen=True, slots=True)
class Token:
    """Lowest version of each key that its holder may be shown. Values, never changed in place."""

    floor: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, key: str) -> int:
        """0 for a key that the holder has not met."""
        return self.floor.get(key, 0)

    def accepts(self, key: str, version: int) -> bool:
        """Whether this version of `key` may be shown to the holder."""
        return version >= self.of(key)

    def merged(self, other: Token) -> Token:
        """What the holder of both may be shown: the higher floor of each key."""
        keys = self.floor.keys() | other.floor.keys()
        return Token({key: max(self.of(key), other.of(key)) for key in keys})

    def raised(self, key: str, version: int) -> Token:
        """The token with the floor of one key at `version` or above."""
        return self.merged(Token({key: version}))


def next_version(token: Token, key: str, *, now_us: int) -> int:
    """The version a write should take: the clock's, or just above what the writer has seen.

    A clock that runs behind thereby cannot make a write lose to what its writer knew.
    """
    return max(now_us, token.of(key) + 1)


def after_write(token: Token, key: str, version: int, guarantee: Guarantee) -> Token:
    """The token of a session that has written; an unknown outcome counts as written."""
    return token.raised(key, version) if Guarantee.READ_YOUR_WRITES in guarantee else token


def after_read(token: Token, key: str, version: int, carried: Token, guarantee: Guarantee) -> Token:
    """The token of a session that was shown `version`, which came with its writer's token."""
    if Guarantee.CAUSAL in guarantee:
        token = token.merged(carried)
    return token.raised(key, version) if Guarantee.MONOTONIC_READS in guarantee else token
