"""A service whose every answer costs the same CPU time: the app of vertical-vs-horizontal.

    GET /work    a chain of SHA-256, about ten milliseconds of one core

One event loop, one thread: like any Python process it computes on one core at a time. Run as a
process with its port as argument.
"""

from __future__ import annotations

import hashlib
import sys

from aiohttp import web

LINKS = 15_000


async def work(_request: web.Request) -> web.StreamResponse:
    """The chain's last link, which the caller checks."""
    return web.json_response({"digest": chain()})


def chain() -> str:
    """LINKS digests, each of the one before."""
    link = b"\x00" * 32
    for _ in range(LINKS):
        link = hashlib.sha256(link).digest()
    return link.hex()


async def _ready(_request: web.Request) -> web.StreamResponse:
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/{group}/work", work)
    app.router.add_get("/health/ready", _ready)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, shutdown_timeout=1)
