"""The processes that the gateway's bench measures, one role each; started by `bench.gateway`.

Prints two words when it serves: its port, and a token that it accepts (`none` where none is
needed). Ends when its standard input does, that is with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import cast

import aiohttp
import uvloop
from aiohttp import web

from bench._bare_proxy import BareProxy, BareUpstream
from month1_caching_gateway.gateway import Endpoint, Gateway, GatewaySettings, Route, Upstream
from month1_caching_gateway.gateway.process import calm_collector
from month1_caching_gateway.ratelimit import Limiter, MemoryStore, Policy, RedisStore, Store
from month1_caching_gateway.response_cache import CachePolicy
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry

BODY = (
    b'{"products":['
    + b",".join(b'{"id":"p-%04d","price_minor":1999}' % n for n in range(7))
    + b"]}"
)
"""What the upstream answers to everything: 280 bytes of JSON."""

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    BODY
)

Served = tuple[int, str]
"""Port and token."""


class _Static(asyncio.Protocol):
    """Answers every request head with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write((_ANSWER + BODY) * data.count(b"\r\n\r\n"))


async def _upstream(_arguments: argparse.Namespace) -> Served:
    server = await asyncio.get_running_loop().create_server(_Static, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1]), "none"


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

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return int(runner.addresses[0][1]), "none"


async def _gateway(arguments: argparse.Namespace) -> Served:
    clock = SystemClock()
    key = SigningKey.generate()
    store: Store = MemoryStore(clock)
    if arguments.redis:
        store = RedisStore(connect(arguments.redis), deadline_s=1.0)
    full = arguments.role == "gateway-full"
    kept = CachePolicy(default_ttl_s=3600.0)
    gateway = Gateway(
        GatewaySettings(trace_ratio=0.01),
        [
            Route("app", prefix="/other", auth="none"),
            Route(
                "app",
                template="/api/v1/products/{id}",
                auth="user" if full else "none",
                rate="plenty" if full else None,
                cache=kept if arguments.role == "gateway-cache" else None,
            ),
        ],
        [Upstream("app", (Endpoint("127.0.0.1", arguments.upstream),), max_connections=256)],
        TokenVerifier(StaticJwks(jwks([key])), "bench", "bench", clock),
        Limiter(store, clock),
        build_telemetry(TelemetrySettings("gateway", trace_export="none")),
        clock,
        rates={"plenty": Policy(1e9, 1e9)},
        # No peer writes a request log; the lines are made and go nowhere.
        log_sink=len,
    )
    token = TokenIssuer(key, "bench", "bench", clock).issue("u", frozenset(), 3600)
    served = await gateway.start("127.0.0.1", 0), token
    calm_collector()
    return served


_ROLES: dict[str, Callable[[argparse.Namespace], Coroutine[object, object, Served]]] = {
    "upstream": _upstream,
    "bare": _bare,
    "aiohttp": _aiohttp,
    "gateway": _gateway,
    "gateway-full": _gateway,
    "gateway-cache": _gateway,
}


async def _serve(arguments: argparse.Namespace) -> None:
    port, token = await _ROLES[arguments.role](arguments)
    sys.stdout.write(f"{port} {token}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=sorted(_ROLES))
    parser.add_argument("--upstream", type=int, help="port of the upstream")
    parser.add_argument("--redis", help="URL of a Redis for shared limits")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
