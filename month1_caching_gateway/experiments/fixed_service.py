"""A service of known capacity: the dependency of the experiment load-shedding.

It works on SEATS requests at once, each for WORK_S seconds; what is over waits inside, in the order
it came, whether its caller still cares or not. Run as a process with its port as argument.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

SEATS = 4
WORK_S = 0.08
CAPACITY_PER_S = SEATS / WORK_S


def app() -> web.Application:
    """Anything but the probe is work."""
    seats = asyncio.Semaphore(SEATS)

    async def work(_request: web.Request) -> web.StreamResponse:
        async with seats:
            await asyncio.sleep(WORK_S)
        return web.json_response({"done": True})

    async def ready(_request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    made = web.Application()
    made.router.add_get("/health/ready", ready)
    made.router.add_get("/{kind}", work)
    return made


if __name__ == "__main__":
    web.run_app(app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, shutdown_timeout=1)
