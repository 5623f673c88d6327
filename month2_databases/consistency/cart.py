"""A shopping cart, as both stores must keep it: what callers may rely on, and nothing of how.

    C1  A cart becomes at most one order. Whoever checks out later is told that order's id.
    C2  A cart that became an order changes no more.
    C3  Two adds at once both count.
    C4  Setting the same quantity again changes nothing; of two at once, one is the last.

Two adapters pass one contract suite: PostgreSQL, and the ring where it agrees by compare-and-set.
The ring's plain cart keeps C4 only; it is here to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from scalelab.errors import Conflict, InvalidInput

LARGEST = 999
"""Of one thing in one cart."""


class CartStore(Protocol):
    """Where carts are kept. Ids are made by callers; a cart begins with its first line."""

    async def lines(self, cart: str) -> Mapping[str, int]:
        """Quantity by SKU; empty for a cart that nobody has begun."""
        ...

    async def set_quantity(self, cart: str, sku: str, quantity: int) -> None:
        """Have `quantity` of a thing in the cart; 0 takes it out. Raises CartClosed (C2)."""
        ...

    async def add(self, cart: str, sku: str, quantity: int) -> None:
        """Have `quantity` more. Not idempotent: after OutcomeUnknown look before you repeat it."""
        ...

    async def check_out(self, cart: str, order: str) -> str:
        """Turn the cart into `order`, unless it became one before; returns the id of its order.

        Idempotent. Raises CartEmpty where there is nothing to order.
        """
        ...


class CartClosed(Conflict):
    """The cart has become an order. Nothing was changed."""

    code = "cart_closed"


class CartEmpty(Conflict):
    """There is nothing in the cart. Nothing was changed."""

    code = "cart_empty"


class CartFull(Conflict):
    """More of one thing than a cart takes. Nothing was changed."""

    code = "cart_full"


def closed(cart: str) -> CartClosed:
    """The error of a change that came after the check-out."""
    return CartClosed(f"cart {cart} has become an order")


def total(quantity: int, more: int) -> int:
    """What stands in the cart after an add. Raises CartFull beyond LARGEST."""
    if quantity + more > LARGEST:
        raise CartFull(f"a cart holds at most {LARGEST} of one thing")
    return quantity + more


def check_quantity(quantity: int, *, least: int) -> None:
    """Raise InvalidInput for a quantity that no cart takes."""
    if not least <= quantity <= LARGEST:
        raise InvalidInput(
            f"quantity {quantity} is not between {least} and {LARGEST}", field="quantity"
        )
