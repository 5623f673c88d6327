"""What the gateway costs per request: CPU of its process, beside an aiohttp proxy and no proxy.

    python -m bench.gateway                      # three arms, interleaved rounds
    python -m bench.gateway --redis redis://...  # adds the arm with tokens and limits in Redis

One upstream process answers 280 bytes of JSON; this process is the load (closed loop, keep-alive).
The number is CPU microseconds of the process under test per request, user and system, from /proc:
it does not depend on how busy the other cores are. `direct` is the upstream's own CPU per request,
the floor for a process that reads and writes one small message. Latency is printed only for one
connection, as a ratio; two shared cores allow no claim about percentiles.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import cast

import aiohttp
import psutil
import uvloop
from aiohttp import web

from month1_caching_gateway.gateway import Endpoint, Gateway, GatewaySettings, Route, Upstream
from month1_caching_gateway.ratelimit import Limiter, MemoryStore, Policy, RedisStore, Store
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry

_BODY = (
    b'{"products":['
    + b",".join(b'{"id":"p-%04d","price_minor":1999}' % n for n in range(7))
    + b"]}"
)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    _BODY
)


class _Static(asyncio.Protocol):
    """Answers every request head with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write((_ANSWER + _BODY) * data.count(b"\r\n\r\n"))


class _Load(asyncio.Protocol):
    """One keep-alive connection in a closed loop; calls `done` after `count` answers."""

    def __init__(self, request: bytes, count: int, done: asyncio.Future[list[float]]) -> None:
        self._request, self._left, self._done = request, count, done
        self._inbox = b""
        self._took_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        if not self._inbox.endswith(_BODY):
            return
        if not self._inbox.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(self._inbox[:200].decode()))
            return
        self._inbox = b""
        self._took_s.append(time.perf_counter() - self._sent_s)
        self._left -= 1
        if self._left:
            self._send()
        else:
            self._transport.close()
            self._done.set_result(self._took_s)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError("the server closed the connection"))

    def _send(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)


async def _upstream(_arguments: argparse.Namespace) -> int:
    server = await asyncio.get_running_loop().create_server(_Static, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


async def _aiohttp(arguments: argparse.Namespace) -> int:
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
    return int(runner.addresses[0][1])


async def _gateway(arguments: argparse.Namespace) -> int:
    clock = SystemClock()
    key = SigningKey.generate()
    store: Store = MemoryStore(clock)
    if arguments.redis:
        store = RedisStore(connect(arguments.redis), deadline_s=1.0)
    checks = arguments.role != "gateway"
    gateway = Gateway(
        GatewaySettings(trace_ratio=0.01),
        [
            Route("app", prefix="/other", auth="none"),
            Route(
                "app",
                template="/api/v1/products/{id}",
                auth="user" if checks else "none",
                rate="plenty" if checks else None,
            ),
        ],
        [Upstream("app", (Endpoint("127.0.0.1", arguments.upstream),), max_connections=256)],
        TokenVerifier(StaticJwks(jwks([key])), "bench", "bench", clock),
        Limiter(store, clock),
        build_telemetry(TelemetrySettings("gateway", trace_export="none")),
        clock,
        rates={"plenty": Policy(1e9, 1e9)},
        log_sink=len if arguments.no_log else None,
    )
    sys.stderr.write(TokenIssuer(key, "bench", "bench", clock).issue("u", frozenset(), 3600) + "\n")
    sys.stderr.flush()
    return await gateway.start("127.0.0.1", 0)


_ROLES: dict[str, Callable[[argparse.Namespace], Coroutine[object, object, int]]] = {
    "upstream": _upstream,
    "aiohttp": _aiohttp,
    "gateway": _gateway,
    "gateway-checks": _gateway,
}


@dataclass
class _Subject:
    """A process under test."""

    name: str
    process: asyncio.subprocess.Process
    port: int
    token: str
    us: list[float]
    p50_us: list[float]

    async def measure(self, connections: int, requests: int) -> float:
        """CPU microseconds per request over one round."""
        usage = psutil.Process(self.process.pid)
        before = sum(usage.cpu_times()[:2])
        await self.load(connections, requests)
        return (sum(usage.cpu_times()[:2]) - before) / requests * 1e6

    async def load(self, connections: int, requests: int) -> list[float]:
        request = (
            "GET /api/v1/products/p-0001?fields=all HTTP/1.1\r\nHost: localhost\r\n"
            "User-Agent: bench/1\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        dones: list[asyncio.Future[list[float]]] = [
            loop.create_future() for _ in range(connections)
        ]
        for done in dones:
            await loop.create_connection(
                lambda done=done: _Load(request, requests // connections, done),
                "127.0.0.1",
                self.port,
            )
        async with asyncio.timeout(120):
            return [took for one in await asyncio.gather(*dones) for took in one]


async def _start(name: str, *options: str) -> _Subject:
    role = name.removesuffix("-redis")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.gateway",
        "--role",
        role,
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    token = "none"
    if role.startswith("gateway"):
        token = (await process.stderr.readline()).decode().strip()
    line = await process.stdout.readline()
    return _Subject(name, process, int(line), token, [], [])


async def _bench(arguments: argparse.Namespace) -> None:
    direct = await _start("upstream")
    to_upstream = ("--upstream", str(direct.port), "--no-log")
    subjects = [
        direct,
        await _start("gateway", *to_upstream),
        await _start("gateway-checks", *to_upstream),
        await _start("aiohttp", *to_upstream),
    ]
    if arguments.redis:
        subjects.append(
            await _start("gateway-checks-redis", *to_upstream, "--redis", arguments.redis)
        )
    try:
        for round_number in range(arguments.rounds + 1):
            order = subjects if round_number % 2 else subjects[::-1]
            for subject in order:
                us = await subject.measure(arguments.connections, arguments.requests)
                took_s = await subject.load(1, 500)
                if round_number:  # the first warms up
                    subject.us.append(us)
                    subject.p50_us.append(statistics.median(took_s) * 1e6)
        _report(subjects)
    finally:
        for subject in subjects:
            subject.process.terminate()
            await subject.process.wait()


def _report(subjects: list[_Subject]) -> None:
    floor = statistics.median(subjects[0].p50_us)
    sys.stdout.write(f"{'arm':24}{'CPU us/request':>16}{'min..max':>16}{'p50, 1 conn.':>16}\n")
    for subject in subjects:
        p50 = statistics.median(subject.p50_us)
        spread = f"{min(subject.us):.0f}..{max(subject.us):.0f}"
        name = "direct" if subject.name == "upstream" else subject.name
        sys.stdout.write(
            f"{name:24}{statistics.median(subject.us):16.1f}{spread:>16}{p50 / floor:14.1f} x\n"
        )


async def _serve(arguments: argparse.Namespace) -> None:
    port = await _ROLES[arguments.role](arguments)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)  # ends with the process that started this one


def main() -> None:
    """Parse the command line and run one role, or the whole comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--role", choices=sorted(_ROLES), help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--no-log", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--redis", help="URL of a Redis for the arm with shared limits")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--requests", type=int, default=16_000, help="per arm and round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments) if arguments.role else _bench(arguments))


if __name__ == "__main__":
    main()
