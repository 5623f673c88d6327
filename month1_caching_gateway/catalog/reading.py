"""Reads over HTTP: by a version's own path, and under the versionless one by headers.

Public answers are cacheable by anyone for `max_age_s` and then revalidated by entity tag.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import BaseModel

from month1_caching_gateway.catalog.catalog import Catalog, unknown_product
from month1_caching_gateway.catalog.entity_tags import matches
from month1_caching_gateway.catalog.product import PRODUCT_ID, etag, page_etag
from month1_caching_gateway.catalog.schemas import whole
from month1_caching_gateway.catalog.shapes import V1, V2, Shape
from month1_caching_gateway.catalog.versions import VARY, Choice, Lifetime, choose
from month1_caching_gateway.catalog.wire import PAGE_LIMIT
from scalelab.web.openapi import problem_responses

ProductIdPath = Annotated[str, Path(pattern=PRODUCT_ID, examples=["p-0001"])]
_Cursor = Annotated[str | None, Query(max_length=200, description="Cursor of the page before.")]
_Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]
_IfNoneMatch = Annotated[str | None, Header(description="Tags of the copies you hold.")]
_ETAG: dict[str, Any] = {"schema": {"type": "string"}, "description": "Strong; names the version."}
_CACHE_HEADERS: dict[str, Any] = {
    "ETag": _ETAG,
    "X-Cache": {"schema": {"type": "string", "enum": ["hit", "miss", "bypass"]}},
}
_NOT_MODIFIED = {"description": "The caller's copy is current.", "headers": {"ETag": _ETAG}}
_SHAPES = {shape.version: shape for shape in (V1, V2)}


class Reads:
    """How answers to reads are made; shared by all versions. lifetime: of version 1."""

    def __init__(self, catalog: Catalog, *, max_age_s: int, lifetime: Lifetime | None) -> None:
        self._catalog = catalog
        self._cache_control = f"public, max-age={max_age_s}"
        self._lifetime = lifetime

    async def page(
        self, choice: Choice, cursor: str | None, limit: int, if_none_match: str | None
    ) -> Response:
        """A page of the list, or 304."""
        shape = _SHAPES[choice.version]
        body = shape.show_page(await self._catalog.page(cursor, limit)).model_dump_json()
        headers = self.headers(shape, None, page_etag(body.encode()))
        return _answer(body, headers, choice, if_none_match)

    async def product(self, choice: Choice, product_id: str, if_none_match: str | None) -> Response:
        """One product, or 304. Raises NotFound."""
        shape = _SHAPES[choice.version]
        answer = await self._catalog.product(product_id)
        if answer.value is None:
            raise unknown_product()
        headers = self.headers(shape, product_id, etag(answer.value, shape.version))
        headers["x-cache"] = answer.outcome.value
        body = shape.show(answer.value).model_dump_json()
        return _answer(body, headers, choice, if_none_match)

    def headers(self, shape: Shape, product_id: str | None, tag: str) -> dict[str, str]:
        """What every answer with a representation says of it."""
        headers = {"etag": tag, "cache-control": self._cache_control}
        if self._lifetime is not None and shape is V1:
            headers |= self._lifetime.headers(V2.path(product_id))
        return headers


def _answer(
    body: str, headers: dict[str, str], choice: Choice, if_none_match: str | None
) -> Response:
    if if_none_match is not None and matches(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=choice.media_type, headers=headers)


def version_router(reads: Reads, shape: Shape) -> APIRouter:
    """Reads under the version's own path."""
    router = APIRouter(prefix=shape.path(), tags=["products"])
    choice = Choice(shape.version, "application/json")

    @router.get(
        "",
        response_model=shape.page_out,
        responses={
            200: {"headers": {"ETag": _ETAG}},
            304: _NOT_MODIFIED,
            **problem_responses(400),
        },
    )
    async def list_products(
        cursor: _Cursor = None, limit: _Limit = 20, if_none_match: _IfNoneMatch = None
    ) -> Response:
        """A page of products in order of id."""
        return await reads.page(choice, cursor, limit, if_none_match)

    @router.get(
        "/{product_id}",
        response_model=shape.product_out,
        responses={
            200: {"headers": _CACHE_HEADERS},
            304: _NOT_MODIFIED,
            **problem_responses(404),
        },
    )
    async def get_product(
        product_id: ProductIdPath, if_none_match: _IfNoneMatch = None
    ) -> Response:
        """One product."""
        return await reads.product(choice, product_id, if_none_match)

    return router


async def _chosen(
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    api_version: Annotated[
        str | None,
        Header(
            alias="API-Version",
            description="1 or 2. Or name it in Accept: application/vnd.scalelab.v2+json.",
            json_schema_extra={"enum": [str(version) for version in _SHAPES]},
        ),
    ] = None,
) -> Choice:
    return choose(accept, api_version, list(_SHAPES))


_Chosen = Annotated[Choice, Depends(_chosen)]


def _forms(models: dict[int, type[BaseModel]]) -> dict[str, Any]:
    """The 200 of a negotiated operation: each version's form under its own media type."""
    schemas = {version: whole(model) for version, model in models.items()}
    content: dict[str, Any] = {
        f"application/vnd.scalelab.v{version}+json": {"schema": schema}
        for version, schema in schemas.items()
    }
    content["application/json"] = {"schema": {"anyOf": list(schemas.values())}}
    return {
        "description": "In the version that the request names; without one, the oldest.",
        "content": content,
        "headers": {"ETag": _ETAG, "Vary": {"schema": {"type": "string"}}},
    }


def negotiated_router(reads: Reads) -> APIRouter:
    """Reads under the versionless path; the version is in a header (versions.py).

    There are no writes here on purpose: what a body means must not hang on another header.
    """
    router = APIRouter(prefix="/api/products", tags=["by header"])

    @router.get(
        "",
        response_class=Response,
        responses={
            200: _forms({shape.version: shape.page_out for shape in _SHAPES.values()}),
            304: _NOT_MODIFIED,
            **problem_responses(400, 406),
        },
    )
    async def list_by_header(
        choice: _Chosen,
        cursor: _Cursor = None,
        limit: _Limit = 20,
        if_none_match: _IfNoneMatch = None,
    ) -> Response:
        """A page of products in order of id, in the version that the request names."""
        return _varying(await reads.page(choice, cursor, limit, if_none_match), choice)

    @router.get(
        "/{product_id}",
        response_class=Response,
        responses={
            200: _forms({shape.version: shape.product_out for shape in _SHAPES.values()}),
            304: _NOT_MODIFIED,
            **problem_responses(400, 404, 406),
        },
    )
    async def get_by_header(
        choice: _Chosen, product_id: ProductIdPath, if_none_match: _IfNoneMatch = None
    ) -> Response:
        """One product, in the version that the request names."""
        return _varying(await reads.product(choice, product_id, if_none_match), choice)

    return router


def _varying(answer: Response, choice: Choice) -> Response:
    answer.headers["vary"] = VARY
    answer.headers["api-version"] = str(choice.version)
    return answer
