"""A service that is as sick as it is told to be: the dependency of the experiment circuit-breaker.

    GET  /work    200, or what the mode says
    PUT  /mode    {"status": 429, "retry_after": "7"}: from now on; {"status": 200} heals it
    GET  /seen    how many calls of /work came, by status answered

Modes: a status of 400 and above, with or without Retry-After; status 0 answers nothing at all.
Run as a process with its port as argument.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from aiohttp import web


class SickService:
    """What it is told, and what came."""

    def __init__(self) -> None:
        self.mode: dict[str, Any] = {"status": 200}
        self.seen: Counter[str] = Counter()

    async def work(self, _request: web.Request) -> web.StreamResponse:
        """The work, if it is well."""
        status = int(self.mode["status"])
        self.seen[str(status)] += 1
        if status == 0:
            await asyncio.Event().wait()
        headers: dict[str, str] = {}
        if self.mode.get("retry_after") is not None:
            headers["Retry-After"] = str(self.mode["retry_after"])
        return web.json_response({"work": status}, status=status, headers=headers)

    async def set_mode(self, request: web.Request) -> web.StreamResponse:
        """From now on."""
        self.mode = await request.json()
        return web.json_response({})

    async def show_seen(self, _request: web.Request) -> web.StreamResponse:
        """The counts since the start."""
        return web.json_response(dict(self.seen))

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_route("*", "/work", self.work)
        app.router.add_put("/mode", self.set_mode)
        app.router.add_get("/seen", self.show_seen)
        app.router.add_get("/health/ready", self.show_seen)
        return app


if __name__ == "__main__":
    web.run_app(
        SickService().app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, shutdown_timeout=1
    )
