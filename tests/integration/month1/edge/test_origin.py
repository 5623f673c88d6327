"""The origin: pages that are asked about each time, static files that never are, and the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import month1_caching_gateway.edge as edge_room
from month1_caching_gateway.edge import OriginSettings, Servers, build, origin_config
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx
from tests.integration.month1.edge.bed import Origin, origin

SITE = Path(edge_room.__file__).parent / "site"


@pytest.fixture
async def api() -> AsyncIterator[Origin]:
    """What stands behind /api/."""
    async with origin() as behind:
        yield behind


@pytest.fixture
async def server(runtime: Runtime, api: Origin) -> AsyncIterator[Nginx]:
    """An origin with the built shop page."""
    site = runtime.data / f"site-{api.port}"
    build(SITE, site)
    settings = OriginSettings(
        ("127.0.0.1",), str(site), Servers((f"127.0.0.1:{api.port}",), balance="least_conn")
    )
    made = Nginx(origin_config(settings), f"origin-{api.port}")
    await asyncio.to_thread(runtime.start, made)
    yield made
    await asyncio.to_thread(runtime.stop, made.name)


async def test_a_page_names_static_files_that_may_be_kept_for_ever(
    server: Nginx, http: aiohttp.ClientSession
) -> None:
    """The page itself: no-cache, 304 by entity tag. What it names: a year, immutable."""
    async with http.get(f"{server.url}/") as page:
        text = await page.text()
        assert page.headers["cache-control"] == "no-cache"
        tag = page.headers["etag"]
    async with http.get(f"{server.url}/", headers={"If-None-Match": tag}) as again:
        assert (again.status, await again.read()) == (304, b"")
    names = [part.split('"')[0] for part in text.split('"/static/')[1:]]
    assert len(names) == 3
    kinds: set[str] = set()
    for name in names:
        async with http.get(f"{server.url}/static/{name}") as asset:
            assert asset.status == 200
            assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
            kinds.add(asset.content_type)
    assert kinds == {"text/css", "application/javascript"} or kinds == {
        "text/css",
        "text/javascript",
    }


async def test_what_is_not_there_is_404_and_is_not_kept(
    server: Nginx, http: aiohttp.ClientSession
) -> None:
    """A missing static file carries no promise of a year; folders are not listed."""
    for path in ("/static/shop.css", "/static/", "/.hidden", "/static/../../etc/passwd"):
        async with http.get(f"{server.url}{path}") as answer:
            assert answer.status in (400, 404)
            assert "immutable" not in answer.headers.get("cache-control", "")


async def test_the_api_is_forwarded_with_the_whole_chain_of_addresses(
    server: Nginx, http: aiohttp.ClientSession, api: Origin
) -> None:
    """The service reads it from its nearest trusted hop."""
    headers = {"X-Forwarded-For": "203.0.113.7"}
    async with http.get(f"{server.url}/api/v1/products?limit=2", headers=headers) as answer:
        assert await answer.read() == b"first"
    assert api.seen == ["GET /api/v1/products?limit=2"]
    assert api.seen_headers[0]["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
