"""The catalogue's JSON in version 2: an amount and its currency are one thing, as `price`.

What version 1 says with two members side by side could be read apart, and was. Nothing else about
a product differs, so both versions are views of the same row.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from month1_caching_gateway.catalog.product import Draft, Product
from month1_caching_gateway.catalog.wire import (
    Category,
    Currency,
    Description,
    Name,
    ProductId,
    UnitMinor,
)


class PriceV2(BaseModel):
    """An amount of money. minor: in minor units (cents)."""

    model_config = ConfigDict(extra="forbid")

    minor: UnitMinor
    currency: Currency


class ProductInV2(BaseModel):
    """A product as its keeper states it, whole."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description
    category: Category
    price: PriceV2

    def draft(self) -> Draft:
        """The same as a value of the core."""
        return Draft(
            self.name, self.description, self.category, self.price.minor, self.price.currency
        )


class ProductOutV2(BaseModel):
    """A product."""

    id: ProductId
    name: str
    description: str
    category: str
    price: PriceV2
    version: Annotated[int, Field(ge=1)]

    @classmethod
    def of(cls, product: Product) -> ProductOutV2:
        """The representation of `product`."""
        return cls.model_construct(
            id=product.product_id,
            name=product.name,
            description=product.description,
            category=product.category,
            price=PriceV2.model_construct(minor=product.unit_minor, currency=product.currency),
            version=product.version,
        )


class PageOutV2(BaseModel):
    """One page in order of id. next: cursor of the page after it, null on the last one."""

    items: list[ProductOutV2]
    next: str | None
