"""The reference page of every service needs nothing but the service."""

from __future__ import annotations

import re

import pytest

from tests.unit.core.web.asgi_harness import bench, call


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
    ],
)
async def test_the_page_and_its_parts_are_served(path: str, media_type: str) -> None:
    """With a policy that lets a browser load from this service alone."""
    answer = await call(bench().app, "GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_the_page_names_no_other_host_and_only_parts_that_exist() -> None:
    """It works on a machine without a network."""
    app = bench().app
    page = (await call(app, "GET", "/docs")).body.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"/docs/page.js", "/docs/page.css", "/openapi.json"} <= set(named)
    for link in named:
        if link != "data:,":
            assert link.startswith("/")
            assert (await call(app, "GET", link)).status == 200


async def test_the_page_is_no_part_of_the_api() -> None:
    """Generated clients and fuzzers do not meet it."""
    description = (await call(bench().app, "GET", "/openapi.json")).json
    assert [path for path in description["paths"] if "docs" in path] == []
