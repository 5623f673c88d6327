"""The forms in which the catalogue speaks: one per version of its JSON, over the same products.

A form's number is its version and the first part of its entity tags, so that a tag of one form
never matches the bytes of another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from month1_caching_gateway.catalog.catalog import Page
from month1_caching_gateway.catalog.product import Draft, Product
from month1_caching_gateway.catalog.wire import PageOut, ProductIn, ProductOut
from month1_caching_gateway.catalog.wire_v2 import PageOutV2, ProductInV2, ProductOutV2
from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Shape:
    """One form. show, show_page: values to JSON. document: what a keeper would have to send."""

    version: int
    product_in: type[ProductIn | ProductInV2]
    product_out: type[BaseModel]
    page_out: type[BaseModel]
    show: Callable[[Product], BaseModel]
    show_page: Callable[[Page], BaseModel]
    document: Callable[[Product], dict[str, Any]]

    def path(self, product_id: str | None = None) -> str:
        """Where the list, or a product, is found in this form."""
        base = f"/api/v{self.version}/products"
        return base if product_id is None else f"{base}/{product_id}"

    def draft(self, document: object) -> Draft:
        """Read what a keeper says. Raises InvalidInput naming the first member that is wrong."""
        try:
            return self.product_in.model_validate(document).draft()
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(
                f"The product would break a rule: {first['msg']}",
                field=".".join(str(part) for part in first["loc"]) or "document",
            ) from error


def _show_page_v1(page: Page) -> BaseModel:
    return PageOut(
        products=[ProductOut.of(product) for product in page.products],
        next_cursor=page.next_cursor,
    )


def _show_page_v2(page: Page) -> BaseModel:
    return PageOutV2(
        items=[ProductOutV2.of(product) for product in page.products], next=page.next_cursor
    )


def _document_v1(product: Product) -> dict[str, Any]:
    return {
        "name": product.name,
        "description": product.description,
        "category": product.category,
        "unit_minor": product.unit_minor,
        "currency": product.currency,
    }


def _document_v2(product: Product) -> dict[str, Any]:
    return {
        "name": product.name,
        "description": product.description,
        "category": product.category,
        "price": {"minor": product.unit_minor, "currency": product.currency},
    }


V1 = Shape(1, ProductIn, ProductOut, PageOut, ProductOut.of, _show_page_v1, _document_v1)
V2 = Shape(2, ProductInV2, ProductOutV2, PageOutV2, ProductOutV2.of, _show_page_v2, _document_v2)
