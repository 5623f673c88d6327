"""The catalogue: products in PostgreSQL, cached in Redis, served with entity tags."""

from __future__ import annotations

from month1_caching_gateway.catalog.app import CatalogConfig, create_catalog_app, migrate
from month1_caching_gateway.catalog.database import DatabaseSettings, Sessions
from month1_caching_gateway.catalog.product import Draft, Product
from month1_caching_gateway.catalog.seed import draw, fill, product_id, seed
from month1_caching_gateway.catalog.versions import Lifetime

__all__ = [
    "CatalogConfig",
    "DatabaseSettings",
    "Draft",
    "Lifetime",
    "Product",
    "Sessions",
    "create_catalog_app",
    "draw",
    "fill",
    "migrate",
    "product_id",
    "seed",
]
