"""The catalogue's JSON: what comes in and what goes out."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from month1_caching_gateway.catalog.product import PRODUCT_ID, Draft, Product

PAGE_LIMIT = 100
PRICES_LIMIT = 100
UNIT_MINOR_MAX = 10**12
"""Far above any price; 50 lines of 100 pieces at this price still fit into 63 bits."""


def _integral(value: object) -> object:
    """JSON has one kind of number, so 788.0 is the integer 788 (JSON Schema 2020-12, 4.2.3)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


ProductId = Annotated[str, Field(pattern=PRODUCT_ID)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]
UnitMinor = Annotated[int, Field(gt=0, le=UNIT_MINOR_MAX, strict=True), BeforeValidator(_integral)]

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: PostgreSQL refuses NUL, and a line of a log stays one line."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]
Description = Annotated[str, Field(max_length=2000, pattern=_PRINTABLE)]
Category = Annotated[str, Field(min_length=1, max_length=60, pattern=_PRINTABLE)]


class ProductIn(BaseModel):
    """A product as its keeper states it, whole."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description
    category: Category
    unit_minor: UnitMinor
    currency: Currency

    def draft(self) -> Draft:
        """The same as a value of the core."""
        return Draft(**self.model_dump())


class ProductOut(BaseModel):
    """A product. unit_minor: price of one in minor units (cents)."""

    product_id: ProductId
    name: str
    description: str
    category: str
    unit_minor: UnitMinor
    currency: Currency
    version: Annotated[int, Field(ge=1)]

    @classmethod
    def of(cls, product: Product) -> ProductOut:
        """The representation of `product`."""
        return cls.model_construct(
            product_id=product.product_id,
            name=product.name,
            description=product.description,
            category=product.category,
            unit_minor=product.unit_minor,
            currency=product.currency,
            version=product.version,
        )


class PageOut(BaseModel):
    """One page in order of id. next_cursor: null on the last page."""

    products: list[ProductOut]
    next_cursor: str | None


class PriceOut(BaseModel):
    """What one piece costs now."""

    product_id: ProductId
    unit_minor: UnitMinor
    currency: Currency


class PricesOut(BaseModel):
    """Prices of the known ids, in the order asked; unknown ids are absent."""

    prices: list[PriceOut]
