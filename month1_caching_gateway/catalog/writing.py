"""Writes over HTTP: idempotent PUT and DELETE, PATCH that demands to know what it changes.

    PUT      the whole product; the same body again is the same state. 201 with Location, then 200
    PATCH    a merge patch; If-Match is required (428), a stale one is refused (412)
    DELETE   204, also for what is not there (any more)

If-Match and If-None-Match are honoured by all. Nobody writes without the scope `admin` (people) or
`internal` (services).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from month1_caching_gateway.catalog import merge_patch
from month1_caching_gateway.catalog.catalog import Catalog
from month1_caching_gateway.catalog.entity_tags import Precondition
from month1_caching_gateway.catalog.product import Draft, Product, etag
from month1_caching_gateway.catalog.reading import ProductIdPath
from month1_caching_gateway.catalog.schemas import of_patch
from month1_caching_gateway.catalog.shapes import V1, V2, Shape
from month1_caching_gateway.catalog.versions import Lifetime
from month1_caching_gateway.catalog.wire import ProductIn
from month1_caching_gateway.catalog.wire_v2 import ProductInV2
from scalelab.errors import Forbidden, InvalidInput
from scalelab.security import Principal, TokenVerifier
from scalelab.web.auth import RequireToken
from scalelab.web.openapi import REQUIRED_AS, problem_responses

KEEPER_SCOPES = frozenset({"admin", "internal"})

_IfMatch = Annotated[str | None, Header(description="Change it only if it still has this tag.")]
_IfNoneMatch = Annotated[str | None, Header(description="`*`: only if there is none yet.")]
_IfMatchRequired = Annotated[
    str | None,
    Header(
        description="The tag of what you decided on, or `*`. Required.",
        # Optional for the framework, so that a missing one gets our code; see openapi.py.
        json_schema_extra={REQUIRED_AS: {"type": "string", "pattern": r'^(\*|"[!#-~]{1,60}")$'}},
    ),
]
_TAGGED = {"headers": {"ETag": {"schema": {"type": "string"}}}}


class _RequireKeeper(RequireToken):
    """A token with one of the scopes that may change products."""

    async def __call__(self, request: Request) -> Principal:
        principal = await super().__call__(request)
        if not principal.scopes & KEEPER_SCOPES:
            raise Forbidden("The token may not change products.", code="insufficient_scope")
        return principal


class Writes:
    """How writes are carried out and answered; shared by all versions. lifetime: of version 1."""

    def __init__(self, catalog: Catalog, *, lifetime: Lifetime | None) -> None:
        self._catalog = catalog
        self._lifetime = lifetime

    async def put(
        self, shape: Shape, product_id: str, draft: Draft, precondition: Precondition
    ) -> Response:
        """201 with Location for a new product, else 200."""
        product, is_new = await self._catalog.put(product_id, draft, precondition, shape.version)
        answer = self._answer(shape, product, 201 if is_new else 200)
        if is_new:
            answer.headers["location"] = shape.path(product_id)
        return answer

    async def patch(
        self, shape: Shape, product_id: str, patch: merge_patch.Json, precondition: Precondition
    ) -> Response:
        """200 with the product as it then is."""

        def change(product: Product) -> Draft:
            return shape.draft(merge_patch.apply(shape.document(product), patch))

        product = await self._catalog.patch(product_id, change, precondition, shape.version)
        return self._answer(shape, product, 200)

    async def delete(self, shape: Shape, product_id: str, precondition: Precondition) -> Response:
        """204."""
        await self._catalog.delete(product_id, precondition, shape.version)
        return Response(status_code=204, headers=self._headers(shape, product_id))

    def _answer(self, shape: Shape, product: Product, status: int) -> Response:
        headers = self._headers(shape, product.product_id)
        headers["etag"] = etag(product, shape.version)
        body = shape.show(product).model_dump_json()
        return Response(body, status, headers, media_type="application/json")

    def _headers(self, shape: Shape, product_id: str) -> dict[str, str]:
        headers = {"cache-control": "no-store"}
        if self._lifetime is not None and shape is V1:
            headers |= self._lifetime.headers(V2.path(product_id))
        return headers


def write_router(writes: Writes, shape: Shape, verifier: TokenVerifier) -> APIRouter:
    """The writes of one version."""
    keeper = Depends(_RequireKeeper(verifier, None))
    router = APIRouter(prefix=shape.path(), tags=["keeping"], dependencies=[keeper])
    add_put = _add_put_v1 if shape is V1 else _add_put_v2
    add_put(router, writes)

    @router.patch(
        "/{product_id}",
        response_model=shape.product_out,
        responses={200: _TAGGED, **problem_responses(404, 412, 428)},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {merge_patch.MEDIA_TYPE: {"schema": of_patch(shape.product_in)}},
            }
        },
    )
    async def patch_product(
        request: Request, product_id: ProductIdPath, if_match: _IfMatchRequired = None
    ) -> Response:
        """Change members of a product by a JSON merge patch (RFC 7396)."""
        patch = merge_patch.parse(request.headers.get("content-type"), await request.body())
        if if_match is None:
            raise InvalidInput(
                "Send If-Match with the tag of the product that you decided on.",
                field="If-Match",
                code="precondition_required",
            )
        return await writes.patch(shape, product_id, patch, Precondition(if_match=if_match))

    @router.delete("/{product_id}", status_code=204, responses=problem_responses(412))
    async def delete_product(product_id: ProductIdPath, if_match: _IfMatch = None) -> Response:
        """Remove a product. One that is not there is removed already."""
        return await writes.delete(shape, product_id, Precondition(if_match=if_match))

    return router


def _add_put_v1(router: APIRouter, writes: Writes) -> None:
    @router.put("/{product_id}", **_put_options(V1))
    async def put_product(
        product_id: ProductIdPath,
        body: ProductIn,
        if_match: _IfMatch = None,
        if_none_match: _IfNoneMatch = None,
    ) -> Response:
        """Make or replace a product. The same body again changes nothing."""
        precondition = Precondition(if_match, if_none_match)
        return await writes.put(V1, product_id, body.draft(), precondition)


def _add_put_v2(router: APIRouter, writes: Writes) -> None:
    @router.put("/{product_id}", **_put_options(V2))
    async def put_product(
        product_id: ProductIdPath,
        body: ProductInV2,
        if_match: _IfMatch = None,
        if_none_match: _IfNoneMatch = None,
    ) -> Response:
        """Make or replace a product. The same body again changes nothing."""
        precondition = Precondition(if_match, if_none_match)
        return await writes.put(V2, product_id, body.draft(), precondition)


def _put_options(shape: Shape) -> dict[str, Any]:
    location = {"Location": {"schema": {"type": "string", "format": "uri-reference"}}}
    return {
        "response_model": shape.product_out,
        "responses": {
            200: _TAGGED,
            201: {
                "model": shape.product_out,
                "description": "The product is new.",
                "headers": _TAGGED["headers"] | location,
            },
            **problem_responses(412),
        },
    }
