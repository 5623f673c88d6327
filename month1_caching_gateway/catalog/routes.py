"""The catalogue over HTTP.

Public reads are cacheable by anyone for `max_age_s` and then revalidated by entity tag; internal
ones carry no-store, because an order must not be priced by an intermediary's copy. Writes need
the scope `admin` (people) or `internal` (services).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from month1_caching_gateway.catalog.catalog import Catalog
from month1_caching_gateway.catalog.product import PRODUCT_ID, etag, matches
from month1_caching_gateway.catalog.wire import (
    PAGE_LIMIT,
    PRICES_LIMIT,
    PageOut,
    PriceOut,
    PricesOut,
    ProductIn,
    ProductOut,
)
from scalelab.errors import Forbidden, NotFound
from scalelab.security import Principal, TokenVerifier
from scalelab.web.auth import RequireToken, require
from scalelab.web.openapi import problem_responses

KEEPER_SCOPES = frozenset({"admin", "internal"})

_ID = PRODUCT_ID.strip("^$")
_IDS = rf"^{_ID}(,{_ID}){{0,{PRICES_LIMIT - 1}}}$"

_ProductId = Annotated[str, Path(pattern=PRODUCT_ID, examples=["p-0001"])]
_Cursor = Annotated[
    str | None, Query(max_length=200, description="next_cursor of the page before.")
]
_Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]
_Ids = Annotated[str, Query(pattern=_IDS, description="1 to 100 product ids, separated by commas.")]
_CACHE_HEADERS = {
    "ETag": {"schema": {"type": "string"}, "description": "Strong; names the version."},
    "X-Cache": {"schema": {"type": "string", "enum": ["hit", "miss", "bypass"]}},
}


class _RequireKeeper(RequireToken):
    """A token with one of the scopes that may change products."""

    async def __call__(self, request: Request) -> Principal:
        principal = await super().__call__(request)
        if not principal.scopes & KEEPER_SCOPES:
            raise Forbidden("The token may not change products.", code="insufficient_scope")
        return principal


def catalog_router(catalog: Catalog, verifier: TokenVerifier, *, max_age_s: int) -> APIRouter:
    """All routes of the catalogue."""
    router = APIRouter()
    router.include_router(_public_router(catalog, max_age_s))
    router.include_router(_keeper_router(catalog, verifier))
    router.include_router(_internal_router(catalog, verifier))
    return router


def _public_router(catalog: Catalog, max_age_s: int) -> APIRouter:
    router = APIRouter(prefix="/api/v1/products", tags=["products"])
    cache_control = f"public, max-age={max_age_s}"

    @router.get("", response_model=PageOut, responses=problem_responses(400))
    async def list_products(cursor: _Cursor = None, limit: _Limit = 20) -> Response:
        """A page of products in order of id."""
        page = await catalog.page(cursor, limit)
        body = PageOut(
            products=[ProductOut.of(product) for product in page.products],
            next_cursor=page.next_cursor,
        )
        return _json(body, cache_control)

    @router.get(
        "/{product_id}",
        response_model=ProductOut,
        responses={
            200: {"headers": _CACHE_HEADERS},
            304: {"description": "The caller's copy is current.", "headers": _CACHE_HEADERS},
            **problem_responses(404),
        },
    )
    async def get_product(
        product_id: _ProductId, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """One product."""
        answer = await catalog.product(product_id)
        if answer.value is None:
            raise NotFound("there is no such product", code="unknown_product")
        tag = etag(answer.value)
        headers = {
            "etag": tag,
            "cache-control": cache_control,
            "x-cache": answer.outcome.value,
        }
        if if_none_match is not None and matches(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        body = ProductOut.of(answer.value).model_dump_json()
        return Response(body, media_type="application/json", headers=headers)

    return router


def _keeper_router(catalog: Catalog, verifier: TokenVerifier) -> APIRouter:
    router = APIRouter(prefix="/api/v1/products", tags=["keeping"])

    @router.put(
        "/{product_id}",
        response_model=ProductOut,
        dependencies=[Depends(_RequireKeeper(verifier, None))],
        responses={201: {"model": ProductOut, "description": "The product is new."}},
    )
    async def put_product(product_id: _ProductId, body: ProductIn) -> Response:
        """Make or replace a product. The same body again changes nothing."""
        product, is_new = await catalog.put(product_id, body.draft())
        headers = {"etag": etag(product), "cache-control": "no-store"}
        return JSONResponse(
            ProductOut.of(product).model_dump(), 201 if is_new else 200, headers=headers
        )

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
        return _json(PricesOut(prices=prices), "no-store")

    return router


def _json(body: PageOut | PricesOut, cache_control: str) -> Response:
    return Response(
        body.model_dump_json(),
        media_type="application/json",
        headers={"cache-control": cache_control},
    )
