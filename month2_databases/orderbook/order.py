"""An order of the order book, and what a new one must be. Pure.

Every row carries the slot of its user, which the id carries too: a row can be found by its id
alone, and all rows of a slot can be moved to another server together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from scalelab.errors import InvalidInput
from scalelab.hashing import slot_for_key
from scalelab.ids import RandomBits, routed_uuid7

_USER = re.compile(r"[A-Za-z0-9._@-]{1,64}")
AMOUNT_LIMIT_CENTS = 100_000_000


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What a caller asks for. user_id: the shard key. amount_cents: 1 to 100,000,000."""

    user_id: str
    amount_cents: int

    def __post_init__(self) -> None:
        check_user(self.user_id)
        if not 1 <= self.amount_cents <= AMOUNT_LIMIT_CENTS:
            raise InvalidInput(
                f"an order is worth 1 to {AMOUNT_LIMIT_CENTS} cents", field="amount_cents"
            )


@dataclass(frozen=True, slots=True)
class Order:
    """A stored order. slot: 0..255, of its user. placed_at: aware, UTC."""

    order_id: UUID
    slot: int
    user_id: str
    amount_cents: int
    placed_at: datetime


def order_of(new: NewOrder, now: datetime, random_bits: RandomBits) -> Order:
    """The order that `new` becomes at `now`, under an id that carries the user's slot."""
    slot = slot_for_key(new.user_id)
    return Order(routed_uuid7(slot, now, random_bits), slot, new.user_id, new.amount_cents, now)


def check_user(user_id: str) -> str:
    """`user_id` if it can be a shard key here, else InvalidInput (user_id)."""
    if not _USER.fullmatch(user_id):
        raise InvalidInput("a user is 1 to 64 of A-Z a-z 0-9 . _ @ -", field="user_id")
    return user_id
