"""Two gateways with the same routes, each in front of the same counting server."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from month1_caching_gateway.edge import (
    ClientLimits,
    NginxGateway,
    create_verifier_app,
    gateway_config,
)
from month1_caching_gateway.gateway import Endpoint, GatewaySettings, Route, Rules, Upstream
from month1_caching_gateway.ratelimit import Policy
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import serve
from tests.integration.month1.gateway.harness import (
    Got,
    OneUser,
    Peer,
    Seen,
    client,
    peer,
    plain,
    running,
)

CAPACITY = 3
RATES = {name: Policy(CAPACITY, 1 / 60) for name in ("few", "drained", "counted")}
"""One for each test that uses an allowance up, so that tests need no order."""
ROUTES = (
    Route("app", template="/open/{id}", auth="none"),
    Route("app", template="/open/{id}", methods=frozenset({"PUT"}), scope="shop"),
    Route("app", template="/open/special", auth="none"),
    Route("app", prefix="/files", methods=frozenset({"GET", "POST"}), auth="none"),
    Route("app", template="/small", methods=frozenset({"POST"}), auth="none", max_body_bytes=100),
    Route("app", template="/mine"),
    Route("app", template="/other", scope="other"),
    Route("app", template="/few/{id}", auth="none", rate="few"),
    Route("app", template="/drained/{id}", auth="none", rate="drained"),
    Route("app", template="/drained-mine", rate="drained"),
    Route("app", template="/counted", auth="none", rate="counted"),
    Route("app", template="/keyed", methods=frozenset({"POST"}), idempotency_key_required=True),
    Route("app", template="/slow", auth="none", timeout_s=0.2),
    Route("gone", template="/gone", auth="none"),
)
GOOD = {"Authorization": "Bearer good"}
_names = itertools.count()


@dataclass
class Door:
    """A gateway of one kind, and the server behind it."""

    kind: str
    port: int
    app: Peer

    async def ask(
        self, method: str, target: str, body: bytes | None = None, /, **headers: str
    ) -> Got:
        """One request on a connection of its own."""
        async with client(self.port) as http:
            return await http.ask(method, target, body, **headers)

    async def raw(self, wire: bytes) -> Got:
        """The first answer to exactly these bytes."""
        async with client(self.port) as http:
            await http.send(wire)
            return await http.answer()


async def answer(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Echoes what it saw; `/slow` never answers; says things that must not reach a client."""
    if seen.target == "/slow":
        await reader.read()
        return False
    lines = "\n".join([seen.method, seen.target, *(f"{n}: {v}" for n, v in seen.headers)])
    body = b"" if seen.method == "HEAD" else lines.encode()
    said = (("X-Request-ID", "theirs"), ("X-Internal-Secret", "s"), ("Server", "app/1"))
    writer.write(plain(200, body, ("Keep-Alive", "timeout=9"), *said, ("X-Ok", "kept")))
    await writer.drain()
    return True


@asynccontextmanager
async def our_gateway(app: Peer, gone: Peer) -> AsyncIterator[Door]:
    """The gateway of this month."""
    settings = GatewaySettings(sweep_s=0.05, allowed_hosts=frozenset({"localhost"}))
    upstreams = {"app": [app], "gone": [gone]}
    async with running(upstreams, ROUTES, settings=settings, rates=RATES) as gateway:
        yield Door("ours", gateway.port, app)


@asynccontextmanager
async def nginx_gateway(app: Peer, gone: Peer, runtime: Runtime) -> AsyncIterator[Door]:
    """nginx, and the verifier that it asks."""
    telemetry = build_telemetry(TelemetrySettings("verifier"), stream=io.StringIO())
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    verifier = asyncio.create_task(
        serve(
            create_verifier_app(OneUser(), telemetry=telemetry),
            host="127.0.0.1",
            port=0,
            stop=stop,
            on_listening=lambda _host, port: listening.set_result(port),
        )
    )
    rules = Rules(
        ROUTES,
        tuple(
            Upstream(name, (Endpoint("127.0.0.1", one.port),))
            for name, one in (("app", app), ("gone", gone))
        ),
        RATES,
    )
    limits = ClientLimits(body_kb=1024)
    config = gateway_config(
        NginxGateway(rules, ("localhost",), f"127.0.0.1:{await listening}", limits)
    )
    server = Nginx(config, f"nginx-gateway-{next(_names)}")
    await asyncio.to_thread(runtime.start, server)
    try:
        yield Door("nginx", server.port, app)
    finally:
        await asyncio.to_thread(runtime.stop, server.name)
        stop.set()
        await verifier
        telemetry.shutdown()


@asynccontextmanager
async def dead_port() -> AsyncIterator[Peer]:
    """A server that has ended: nobody listens at its port."""
    async with peer() as gone:
        pass
    yield gone


def lines(got: Got) -> list[str]:
    """What the server saw: method, target, then a header a line."""
    return got.body.decode("latin-1").splitlines()
