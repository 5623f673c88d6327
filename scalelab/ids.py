"""Identifiers: UUIDv7 by RFC 9562, and order ids that carry their slot.

Layout of a UUIDv7 (128 bits): 48 bits of Unix milliseconds, 4 bits version (7), 12 random bits,
2 bits variant (10), 62 random bits. A *routed* id spends the 8 bits after the variant on a slot
number 0..255, so that whoever holds the id can route without a directory:

    unix_ms(48) | 0111 | rand_a(12) | 10 | slot(8) | rand_b(54)

Ids made later sort later by millisecond; 66 random bits remain in a routed id. Randomness is
passed in, so a simulation can replay its ids.
Source: RFC 9562 section 5.7; differs in: the slot takes 8 of the random bits of rand_b.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from scalelab.errors import InvalidInput

SLOT_COUNT = 256
"""Number of virtual slots a routed id can name; fixed for ever, because ids carry it."""

RandomBits = Callable[[int], int]
"""Takes a bit count n, returns an integer in 0..2**n - 1 (the shape of secrets.randbits)."""

_SLOT_SHIFT = 54
_SLOT_MASK = 0xFF << _SLOT_SHIFT


def uuid7(now: datetime, random_bits: RandomBits = secrets.randbits) -> UUID:
    """A UUIDv7 for the instant `now` (aware, UTC). Unique up to 74 random bits a millisecond."""
    unix_ms = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    high = unix_ms << 16 | 0x7 << 12 | random_bits(12)
    low = 0b10 << 62 | random_bits(62)
    return UUID(int=high << 64 | low)


def routed_uuid7(slot: int, now: datetime, random_bits: RandomBits = secrets.randbits) -> UUID:
    """A UUIDv7 whose 8 bits after the variant carry `slot` (0..255).

    Raises InvalidInput for a slot outside that range.
    """
    if not 0 <= slot < SLOT_COUNT:
        raise InvalidInput(f"slot {slot} is outside 0..{SLOT_COUNT - 1}", field="slot")
    return UUID(int=uuid7(now, random_bits).int & ~_SLOT_MASK | slot << _SLOT_SHIFT)


def slot_of(routed: UUID) -> int:
    """The slot (0..255) inside a routed id.

    Raises InvalidInput if the id is not a UUIDv7: it never came from `routed_uuid7`.
    """
    if routed.version != 7:
        raise InvalidInput(f"{routed} is not an order id", field="order_id")
    return routed.int >> _SLOT_SHIFT & 0xFF
