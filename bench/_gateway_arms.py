"""The processes that the gateway's bench measures, one role each; started by `bench.gateway`.

Prints two words when it serves: its port, and a token that it accepts (`none` where none is
needed). Ends when its standard input does, that is with the process that started it.

The peers that a person would write stand as tutorials show them: `aiohttp-simple` makes a session
for each request, `fastapi-httpx` streams one shared httpx client through FastAPI and a middleware.
`aiohttp` is the same proxy with one session and no log: the peer that a gate names.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

import aiohttp
import httpx
import uvicorn
import uvloop
from aiohttp import web
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask

from bench._bare_proxy import BareProxy, BareUpstream
from bench._gateway_bodies import serve_bodies, serve_streaming_gateway
from month1_caching_gateway.experiments.overhead_process import (
    Served,
    announce,
    serve_gateway,
    serve_static,
)
from month1_caching_gateway.gateway.process import calm_collector
from month1_caching_gateway.response_cache import CachePolicy

_HOPS = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "host"))


async def _upstream(_arguments: argparse.Namespace) -> Served:
    return await serve_static()


async def _bare(arguments: argparse.Namespace) -> Served:
    idle: list[BareUpstream] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: BareProxy(arguments.upstream, idle), "127.0.0.1", 0
    )
    return int(server.sockets[0].getsockname()[1]), "none"


async def _aiohttp(arguments: argparse.Namespace) -> Served:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256))

    async def forward(request: web.Request) -> web.StreamResponse:
        url = f"http://127.0.0.1:{arguments.upstream}{request.path_qs}"
        async with session.request(request.method, url, headers=request.headers) as got:
            return web.Response(body=await got.read(), status=got.status)

    return await _serve_aiohttp(forward, quiet=True)


async def _aiohttp_simple(arguments: argparse.Namespace) -> Served:
    async def forward(request: web.Request) -> web.StreamResponse:
        url = f"http://127.0.0.1:{arguments.upstream}{request.path_qs}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, headers=request.headers) as got,
        ):
            return web.Response(body=await got.read(), status=got.status)

    return await _serve_aiohttp(forward, quiet=False)


async def _serve_aiohttp(
    forward: Callable[[web.Request], Awaitable[web.StreamResponse]], *, quiet: bool
) -> Served:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", forward)
    runner = web.AppRunner(app, access_log=None) if quiet else web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return int(runner.addresses[0][1]), "none"


async def _fastapi(arguments: argparse.Namespace) -> Served:
    app = FastAPI()
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{arguments.upstream}", timeout=30.0)

    async def named(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["x-gateway"] = "tutorial"
        return response

    async def forward(request: Request, path: str) -> Response:
        headers = [(k, v) for k, v in request.headers.items() if k not in _HOPS]
        url = httpx.URL(path=f"/{path}", query=request.url.query.encode())
        asked = client.build_request(request.method, url, headers=headers)
        got = await client.send(asked, stream=True)
        back = {k: v for k, v in got.headers.items() if k not in _HOPS - {"content-length"}}

        async def body() -> AsyncGenerator[bytes]:
            async for piece in got.aiter_raw():
                yield piece

        closing = BackgroundTask(got.aclose)
        return StreamingResponse(body(), got.status_code, back, background=closing)

    app.middleware("http")(named)
    app.api_route("/{path:path}", methods=["GET", "POST"])(forward)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    _serving.append(asyncio.get_running_loop().create_task(server.serve()))
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1]), "none"


_serving: list[asyncio.Task[None]] = []


async def _gateway(arguments: argparse.Namespace) -> Served:
    full = arguments.role == "gateway-full"
    kept = CachePolicy(default_ttl_s=3600.0) if arguments.role == "gateway-cache" else None
    return await serve_gateway(arguments.upstream, full=full, redis_url=arguments.redis, cache=kept)


async def _bodies(_arguments: argparse.Namespace) -> Served:
    return await serve_bodies()


async def _gateway_streaming(arguments: argparse.Namespace) -> Served:
    return await serve_streaming_gateway(arguments.upstream)


_ROLES: dict[str, Callable[[argparse.Namespace], Coroutine[object, object, Served]]] = {
    "upstream": _upstream,
    "bare": _bare,
    "aiohttp": _aiohttp,
    "aiohttp-simple": _aiohttp_simple,
    "fastapi-httpx": _fastapi,
    "gateway": _gateway,
    "gateway-full": _gateway,
    "gateway-cache": _gateway,
    "bodies": _bodies,
    "gateway-streaming": _gateway_streaming,
}


async def _serve(arguments: argparse.Namespace) -> None:
    served = await _ROLES[arguments.role](arguments)
    calm_collector()  # the gateway's processes do it; the peers get the same
    await announce(served)


def main() -> None:
    """Serve one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=sorted(_ROLES))
    parser.add_argument("--upstream", type=int, help="port of the upstream")
    parser.add_argument("--redis", help="URL of a Redis for shared limits")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
