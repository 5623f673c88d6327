"""The two services an order asks before it exists: catalog for prices, inventory for a hold.

Failure policy: CLOSED. Without an answer of both no order is placed; the caller is told to come
back (Unavailable), whatever the peer's own trouble was called. A hold that was placed for an order
that then was not expires on the inventory's side; nobody has to take it back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from month3_messaging.orders.models import LineIn, Price
from scalelab.clients.http import HttpClient
from scalelab.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)

_SHORTEST_RETRY_S = 1.0


class _PriceIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    product_id: str
    unit_minor: int = Field(gt=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


class _PricesIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    prices: list[_PriceIn]


class CatalogPrices:
    """Prices by catalog's internal API."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def prices(self, product_ids: Collection[str]) -> dict[str, Price]:
        """Today's price of each product that is sold; unknown ones are absent.

        Raises Unavailable if catalog cannot say.
        """
        try:
            answer = await self._http.get(
                "/internal/v1/prices", params={"ids": ",".join(sorted(product_ids))}
            )
            listed = _PricesIn.model_validate_json(answer.body)
        except ValidationError as error:
            raise Unavailable("catalog gave no prices", code="catalog_unavailable") from error
        except ScalelabError as error:
            raise _away("catalog", error) from error
        return {one.product_id: Price(one.unit_minor, one.currency) for one in listed.prices}


class InventoryHolds:
    """Holds by inventory's internal API."""

    def __init__(self, http: HttpClient, *, ttl_s: float) -> None:
        self._http = http
        self._ttl_s = ttl_s

    async def hold(self, hold_id: UUID, user_id: str, lines: Sequence[LineIn]) -> None:
        """Have the lines held for `ttl_s` seconds under `hold_id`; again with the same is no harm.

        Raises Conflict code `out_of_stock`, InvalidInput code `unknown_product`, or Unavailable
        (the hold may exist then, and expires).
        """
        body = {
            "user_id": user_id,
            "lines": [{"product_id": line.product_id, "quantity": line.quantity} for line in lines],
            "ttl_s": self._ttl_s,
        }
        try:
            await self._http.put(f"/internal/v1/holds/{hold_id}", body)
        except ScalelabError as error:
            if isinstance(error, Conflict) and error.stable_code == "out_of_stock":
                raise Conflict("not enough stock", code="out_of_stock") from error
            if isinstance(error, NotFound) and error.stable_code == "unknown_product":
                raise InvalidInput(
                    "no such product", field="lines", code="unknown_product"
                ) from error
            raise _away("inventory", error) from error


def _away(peer: str, error: ScalelabError) -> Unavailable:
    """A peer's failure as the caller of *this* service should hear it."""
    wait_s = _SHORTEST_RETRY_S
    if isinstance(error, (Unavailable, OutcomeUnknown, Overloaded)):
        wait_s = max(wait_s, error.retry_after_s)
    return Unavailable(
        f"{peer} cannot answer: {error}", retry_after_s=wait_s, code=f"{peer}_unavailable"
    )
