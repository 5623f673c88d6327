"""A service that answers at once, or the gateway before it, as a process; see gateway_overhead.py.

Prints two words when it serves: its port, and a token that it accepts (`none` where none is
needed). Ends when its standard input does, that is with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop

from month1_caching_gateway.gateway import Endpoint, Gateway, GatewaySettings, Route, Upstream
from month1_caching_gateway.gateway.process import calm_collector
from month1_caching_gateway.ratelimit import Limiter, MemoryStore, Policy, RedisStore, Store
from month1_caching_gateway.response_cache import CachePolicy
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry

SERVICE, PASS_THROUGH, FULL = "service", "pass-through", "full-chain"
BODY = (
    b'{"products":['
    + b",".join(b'{"id":"p-%04d","price_minor":1999}' % n for n in range(7))
    + b"]}"
)
"""What the service answers to everything: 259 bytes of JSON."""

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    BODY
)
_ROOT = Path(__file__).parents[2]

Served = tuple[int, str]
"""Port and token."""


class Static(asyncio.Protocol):
    """Answers every request head with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write((_ANSWER + BODY) * data.count(b"\r\n\r\n"))


async def serve_static() -> Served:
    """Serve the body on a free port."""
    server = await asyncio.get_running_loop().create_server(Static, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1]), "none"


async def serve_gateway(
    upstream: int, *, full: bool, redis_url: str | None = None, cache: CachePolicy | None = None
) -> Served:
    """Serve a gateway before the service.

    full: a token and an allowance are demanded. cache: answers are kept under this policy.
    """
    clock = SystemClock()
    key = SigningKey.generate()
    store: Store = MemoryStore(clock)
    if redis_url:
        store = RedisStore(connect(redis_url), deadline_s=1.0)
    gateway = Gateway(
        GatewaySettings(trace_ratio=0.01),
        [
            Route("app", prefix="/other", auth="none"),
            Route(
                "app",
                template="/api/v1/products/{id}",
                auth="user" if full else "none",
                rate="plenty" if full else None,
                cache=cache,
            ),
        ],
        [Upstream("app", (Endpoint("127.0.0.1", upstream),), max_connections=256)],
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


@contextmanager
def process(argv: list[str]) -> Generator[tuple[int, int, str]]:
    """A serving process: its pid, port and token; it ends with the context."""
    with subprocess.Popen(
        [sys.executable, "-m", *argv],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        port, _, token = started.stdout.readline().strip().partition(" ")
        if not port:
            raise RuntimeError(f"{argv} did not start; its words are above")
        try:
            yield started.pid, int(port), token
        finally:
            started.terminate()


def request_with(token: str) -> bytes:
    """What every arm is asked."""
    return (
        "GET /api/v1/products/p-0001?fields=all HTTP/1.1\r\nHost: localhost\r\n"
        "User-Agent: bench/1\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


async def announce(served: Served) -> None:
    """Say where, then serve until standard input ends."""
    sys.stdout.write(f"{served[0]} {served[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


async def _serve(arguments: argparse.Namespace) -> None:
    if arguments.role == SERVICE:
        await announce(await serve_static())
    else:
        await announce(await serve_gateway(arguments.upstream, full=arguments.role == FULL))


def main() -> None:
    """Serve one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=(SERVICE, PASS_THROUGH, FULL))
    parser.add_argument("--upstream", type=int, help="port of the service")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
