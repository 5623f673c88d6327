"""What a cache may hold for a key, and which of two entries may stand.

Theory of operation
    Cache-aside leaves a gap. A reader misses and reads version 1 from the database. A writer
    commits version 2 and removes the key. Now the reader stores version 1, and nobody removes it
    again before its lifetime ends. Removing is the mistake: it forgets what the writer knew.
    Here the writer leaves a *fence* that says "below version 2 nothing may be stored". The
    reader's late fill is compared with it and refused, wherever the reader stood in between.

    An entry is one of three: a value, an absence (the source has no such key), a fence. All carry
    the version of the source's row. An absence has version 0, rows start at 1, so a fill of "no
    such key" cannot cover a row that was made meanwhile.

Invariants (tests cite them)
    I1  While an entry of version v stands, no entry below v replaces it.
    I2  A fence of version v is never served; it stands until a fill of version >= v, a newer
        fence, or its lifetime.
    I3  A value is fresh for ttl_s * (1 - jitter) .. ttl_s, so ttl_s bounds the age of what is
        served as fresh. It stands `keep_s` longer only if the policy serves stale values.

What I1 does not cover: a reader that stops for longer than `fence_ttl_s` between its read and
its fill. That is why Policy refuses a fence shorter than a load may take, and why a load that
outran its deadline fills nothing.

Source: Nishtala et al. 2013, "Scaling Memcache at Facebook", section 3.2.1 (leases); differs in:
versions of the source decide, not tokens of the cache, so a lagging replica is refused as well.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from scalelab.errors import CorruptData, InvalidInput

VERSION_LIMIT = 2**53
"""Versions are below this: Lua compares them as doubles, which are exact only that far."""

_DIGITS = 16
_FRESHNESS = struct.Struct(">QI")  # fresh_until_ms, load_ms
_HEADER = 1 + _DIGITS + _FRESHNESS.size
_LONGEST_LOAD_MS = 2**32 - 1


class Kind(Enum):
    """The first byte of a stored entry."""

    VALUE = b"V"
    ABSENT = b"A"
    FENCE = b"F"


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored entry. version: of the source's row, 0 only for an absence. payload: the value's
    bytes, empty for the other kinds.

    fresh_until_ms: Unix time; 0 means as long as it stands. load_ms: what the source took for it.
    Both are 0 unless the policy serves stale values or refreshes early: see freshness.py.
    """

    kind: Kind
    version: int
    payload: bytes = b""
    fresh_until_ms: int = 0
    load_ms: int = 0

    def __post_init__(self) -> None:
        lowest = 0 if self.kind is Kind.ABSENT else 1
        if not lowest <= self.version < VERSION_LIMIT:
            raise InvalidInput(
                f"version {self.version} of a {self.kind.name.lower()} entry is outside "
                f"{lowest}..{VERSION_LIMIT - 1}",
                field="version",
            )


@dataclass(frozen=True, slots=True)
class Policy:
    """How long entries stand. All in seconds.

    ttl_s: the longest a value stands; bounds staleness when an invalidation is lost. Longer means
    more hits and older answers. negative_ttl_s: the same for an absence; shorter than ttl_s,
    because a key that does not exist costs the cache memory for nothing. jitter: the share 0..1
    of a lifetime that is drawn at random, so that keys filled together do not expire together.
    load_timeout_s: the longest a load may take. fence_ttl_s: how long a writer's fence stands,
    more than load_timeout_s.

    stale_while_revalidate_s: for so long after it is fresh a value is served at once and loaded
    anew behind. stale_if_error_s: for so long it is served if the source fails. early_beta: > 0
    loads popular values anew before they end (xfetch.py); 1.0 is the paper's choice. All three
    are off at 0.
    """

    ttl_s: float = 60.0
    negative_ttl_s: float = 5.0
    jitter: float = 0.2
    load_timeout_s: float = 5.0
    fence_ttl_s: float = 30.0
    stale_while_revalidate_s: float = 0.0
    stale_if_error_s: float = 0.0
    early_beta: float = 0.0

    def __post_init__(self) -> None:
        if min(self.ttl_s, self.negative_ttl_s, self.load_timeout_s) <= 0:
            raise InvalidInput("every lifetime of a cache policy is above 0 s", field="ttl_s")
        if min(self.stale_while_revalidate_s, self.stale_if_error_s, self.early_beta) < 0:
            raise InvalidInput("no stale time and no beta is below 0", field="stale_if_error_s")
        if not 0 <= self.jitter < 1:
            raise InvalidInput(f"jitter {self.jitter} is outside 0..1", field="jitter")
        if self.fence_ttl_s <= self.load_timeout_s:
            raise InvalidInput(
                f"fence_ttl_s {self.fence_ttl_s} must exceed load_timeout_s "
                f"{self.load_timeout_s}: an old read could outlive the fence",
                field="fence_ttl_s",
            )

    @property
    def keep_s(self) -> float:
        """How long a value stands after it is fresh."""
        return max(self.stale_while_revalidate_s, self.stale_if_error_s)

    @property
    def tells_freshness(self) -> bool:
        """Whether a value's entry must say until when it is fresh."""
        return self.keep_s > 0 or self.early_beta > 0


def may_replace(standing: Entry | None, candidate: Entry) -> bool:
    """Whether `candidate` is stored over `standing` (None: nothing there). Holds I1 and I2.

    A fill of the standing version is stored: it renews the lifetime or lifts the fence. A fence
    of the standing version is not: what stands is already as new as the write.
    """
    if standing is None:
        return True
    if candidate.kind is Kind.FENCE:
        return candidate.version > standing.version
    return candidate.version >= standing.version


def lifetime_ms(policy: Policy, kind: Kind, draw: float) -> int:
    """Milliseconds, >= 1, an entry stands. `draw`: uniform in 0..1, spreads all but fences (I3).

    A fence gets its full time: it guards, and is not spread.
    """
    if kind is Kind.FENCE:
        return max(1, round(policy.fence_ttl_s * 1000))
    base_s = policy.ttl_s if kind is Kind.VALUE else policy.negative_ttl_s
    return max(1, int(base_s * (1 - policy.jitter * draw) * 1000))


def encode(entry: Entry) -> bytes:
    """kind (1 byte), version (16 decimal digits), freshness (12 bytes), payload.

    put.lua reads the first two.
    """
    freshness = _FRESHNESS.pack(entry.fresh_until_ms, min(entry.load_ms, _LONGEST_LOAD_MS))
    return b"%b%016d%b%b" % (entry.kind.value, entry.version, freshness, entry.payload)


def decode(raw: bytes) -> Entry:
    """The inverse of `encode`. Raises CorruptData for bytes that `encode` cannot have made."""
    digits = raw[1 : 1 + _DIGITS]
    if len(raw) < _HEADER or not digits.isdigit():
        raise CorruptData("a cache entry's header is not readable")
    fresh_until_ms, load_ms = _FRESHNESS.unpack_from(raw, 1 + _DIGITS)
    try:
        return Entry(Kind(raw[:1]), int(digits), raw[_HEADER:], fresh_until_ms, load_ms)
    except (ValueError, InvalidInput) as error:
        raise CorruptData("a cache entry's header is not readable") from error
