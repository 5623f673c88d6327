"""The shop's public routes, as the document the gateway checks at its start.

What is not listed here does not exist for the outside: the internal routes of the services and
their metrics are reachable on loopback only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

_BROWSE = {"auth": "none", "rate": "anonymous"}
_SHOP = {"auth": "user", "scope": "shop", "rate": "customer"}

_PAGES = "pages"
_CORS: dict[str, list[str]] = {
    "headers": ["authorization", "content-type", "idempotency-key", "x-consistency-token"],
    "expose": ["etag", "location", "retry-after", "x-consistency-token", "x-request-id"],
}
"""Beside what every page may send and read. No cookies are used here, so no credentials either."""

_SIZES: dict[str, dict[str, int]] = {
    "orders": {"max_connections": 24, "max_waiting": 48},
    "status": {"max_connections": 512, "max_waiting": 0},
}
"""How many requests a service works on at once, and how many wait for it.

What is over that is told at once to come back (503 `upstream_busy`): a queue longer than a
customer's patience is work for nobody. Status streams stay open for long, so they have a pool of
their own and cannot crowd out orders.
"""


def document(
    *,
    identity_url: str,
    catalog_url: str,
    orders_url: str,
    rates: dict[str, dict[str, float]],
    origins: Sequence[str] = (),
) -> dict[str, Any]:
    """Routes, upstreams and rate policies. rates: `anonymous`, `customer` and `sign_in` policies.
    origins: whose pages' scripts may use the shop (`https://shop.example`); nobody's by default.

    Time-outs: a read answers in 5 s or not at all; an order gets 10 s because its commit may wait
    5 s for a replica that has just died; a stream of statuses stays open for up to an hour.
    """
    sign_in = {"methods": ["POST"], "upstream": "identity", "auth": "none", "rate": "sign_in"}
    routes: list[dict[str, Any]] = [
        {"template": "/api/v1/auth/register", **sign_in, "timeout_s": 10.0},
        {"template": "/api/v1/auth/login", **sign_in, "timeout_s": 10.0},
        {"template": "/.well-known/jwks.json", "upstream": "identity", **_BROWSE},
        {"template": "/api/v1/products", "upstream": "catalog", **_BROWSE},
        {"template": "/api/v1/products/{product_id}", "upstream": "catalog", **_BROWSE},
        {
            "template": "/api/v1/orders",
            "methods": ["POST"],
            "upstream": "orders",
            **_SHOP,
            "idempotency_key_required": True,
            "timeout_s": 10.0,
        },
        {"template": "/api/v1/orders", "methods": ["GET"], "upstream": "orders", **_SHOP},
        {"template": "/api/v1/orders/{order_id}", "upstream": "orders", **_SHOP},
        {
            "template": "/api/v1/orders/{order_id}/events",
            "upstream": "status",
            **_SHOP,
            "streaming": True,
            "timeout_s": 3600.0,
        },
    ]
    upstreams = {
        "identity": identity_url,
        "catalog": catalog_url,
        "orders": orders_url,
        "status": orders_url,
    }
    shared = {"cors": _PAGES} if origins else {}
    return {
        "routes": [{**route, **shared} for route in routes],
        **({"cors": {_PAGES: {"origins": sorted(origins), **_CORS}}} if origins else {}),
        "upstreams": {
            name: {"endpoints": [_endpoint(url)], **_SIZES.get(name, {})}
            for name, url in upstreams.items()
        },
        "rates": rates,
    }


def _endpoint(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"host": parts.hostname or "127.0.0.1", "port": parts.port or 80}
