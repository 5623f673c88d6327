"""Jump consistent hash: numbered buckets, no memory, and an even spread.

Theory of operation
    Grow from 1 bucket to n and, at each growth to j + 1, let a key jump to the new bucket j with
    probability 1 / (j + 1), drawn from a generator that the key seeds. Every bucket then has
    1/n of the keys. The draws between two jumps need not be made: the next jump's place has a
    known distribution and is computed from one draw, so about ln n draws suffice.

Invariants (tests cite them)
    I1  0 <= bucket < buckets.
    I2  Monotone: from n to n + 1 buckets a key stays or moves to bucket n, the new one.
    I3  The same key gives the same bucket in every process.

Absent on purpose: names, weights, and removing a bucket in the middle; only the last can go.
For those see ring.py and rendezvous.py. Good for shards, which are numbered and stay.
Source: Lamping and Veach 2014, "A fast, minimal memory, consistent hash algorithm".
"""

from __future__ import annotations

import xxhash

from scalelab.errors import InvalidInput

_MULTIPLIER = 2862933555777941757
_MASK = 2**64 - 1


def jump(digest: int, buckets: int) -> int:
    """The bucket 0..buckets-1 of a 64-bit hash. Raises InvalidInput unless buckets is 1..2**31-1.

    Cost: O(log buckets), no memory. The limit is where a double still tells places apart.
    """
    if not 1 <= buckets < 2**31:
        raise InvalidInput(f"{buckets} buckets are outside 1..2**31-1", field="buckets")
    state = digest & _MASK
    bucket, following = 0, 0
    while following < buckets:
        bucket = following
        state = (state * _MULTIPLIER + 1) & _MASK
        following = int((bucket + 1) * (2**31 / ((state >> 33) + 1)))
    return bucket


def jump_for_key(key: str, buckets: int) -> int:
    """The bucket of a key: `jump` of its xxh3_64. Raises as `jump` does."""
    return jump(xxhash.xxh3_64_intdigest(key.encode()), buckets)
