"""All routes of the catalogue, put together; and the one for services.

The internal one carries no-store, because an order must not be priced by an intermediary's copy.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from month1_caching_gateway.catalog.catalog import Catalog
from month1_caching_gateway.catalog.product import PRODUCT_ID
from month1_caching_gateway.catalog.reading import Reads, negotiated_router, version_router
from month1_caching_gateway.catalog.shapes import V1, V2
from month1_caching_gateway.catalog.versions import Lifetime
from month1_caching_gateway.catalog.wire import PRICES_LIMIT, PriceOut, PricesOut
from month1_caching_gateway.catalog.writing import Writes, write_router
from scalelab.security import TokenVerifier
from scalelab.web.auth import require

STATUSES = {
    "invalid_cursor": 400,
    "unknown_version": 400,
    "not_acceptable": 406,
    "precondition_failed": 412,
    "precondition_required": 428,
}
"""The catalogue's own codes whose status is not that of their class."""

_ID = PRODUCT_ID.strip("^$")
_IDS = rf"^{_ID}(,{_ID}){{0,{PRICES_LIMIT - 1}}}$"
_Ids = Annotated[str, Query(pattern=_IDS, description="1 to 100 product ids, separated by commas.")]


def catalog_router(
    catalog: Catalog, verifier: TokenVerifier, *, max_age_s: int, lifetime: Lifetime | None
) -> APIRouter:
    """Version 1 alone; with its `lifetime`, version 2 and the versionless path beside it."""
    reads = Reads(catalog, max_age_s=max_age_s, lifetime=lifetime)
    writes = Writes(catalog, lifetime=lifetime)
    router = APIRouter()
    for shape in (V1,) if lifetime is None else (V1, V2):
        router.include_router(version_router(reads, shape))
        router.include_router(write_router(writes, shape, verifier))
    if lifetime is not None:
        router.include_router(negotiated_router(reads))
    router.include_router(_internal_router(catalog, verifier))
    return router


def _internal_router(catalog: Catalog, verifier: TokenVerifier) -> APIRouter:
    router = APIRouter(prefix="/internal/v1", tags=["internal"])

    @router.get(
        "/prices",
        response_model=PricesOut,
        dependencies=[Depends(require(verifier, scope="internal"))],
    )
    async def get_prices(ids: _Ids) -> Response:
        """What the known ones of these products cost; unknown ids are absent."""
        known = await catalog.known(ids.split(","))
        prices = [
            PriceOut.model_construct(
                product_id=product.product_id,
                unit_minor=product.unit_minor,
                currency=product.currency,
            )
            for product in known
        ]
        return Response(
            PricesOut(prices=prices).model_dump_json(),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    return router
