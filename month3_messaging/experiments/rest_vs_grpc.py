"""One call, "hold this stock", over three protocols. What goes over the wire?

The same desk behind REST, gRPC and Thrift, the same holds, each client on a warm connection that is
led through a wire that counts. Bytes and connections are counted; processor time is shown and
carries no claim, for it is that of both sides, the wire and a busy machine together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from month3_messaging.experiments.counted_wire import Wire, counted
from month3_messaging.experiments.rest_serving import serving_rest
from month3_messaging.rpc import Hold, HoldLine, RestStock, StockCalls, StockDesk
from month3_messaging.rpc.grpc_client import GrpcStock
from month3_messaging.rpc.grpc_door import serving_grpc
from month3_messaging.rpc.thrift_client import ThriftStock
from month3_messaging.rpc.thrift_door import serving_thrift
from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

Protocol = Literal["REST", "gRPC", "Thrift"]
PROTOCOLS: tuple[Protocol, ...] = ("REST", "gRPC", "Thrift")
LINES = (1, 5, 20, 50)
AT_ONCE = 20
_TIMEOUT_S = 60.0
_PIECES = 10**9


@dataclass(frozen=True, slots=True)
class Seen:
    """One protocol and size, per call. cpu_ms: of both sides and the wire."""

    lines: int
    bytes: float
    cpu_ms: float


def run(lab: Lab) -> Result:
    """Every size over every protocol, then many calls at once."""
    return asyncio.run(_run(lab))


async def _run(lab: Lab) -> Result:
    calls = 50 if lab.quick else 500
    seen: dict[Protocol, list[Seen]] = {}
    for protocol in PROTOCOLS:
        lab.note(f"{protocol}: {calls} holds of each size")
        seen[protocol] = [await _measure(protocol, lines, calls) for lines in LINES]
    lab.note(f"{AT_ONCE} calls at once")
    connections: dict[Protocol, int] = {
        "REST": await _at_once("REST"),
        "gRPC": await _at_once("gRPC"),
    }
    return Result(
        arms=tuple(_arm(name, of_one, connections.get(name)) for name, of_one in seen.items()),
        shape=_claims(seen, connections),
        plot=Plot(Axis("lines of the hold"), Axis("bytes of a call, both ways", log=True)),
        notes=(
            "Bytes of the protocol on a warm connection, without TLS and TCP's own headers.",
            "Names of products have 12 characters; ids of holds 36, as a UUID has.",
        ),
    )


@asynccontextmanager
async def _connected(
    protocol: Protocol, desk: StockDesk
) -> AsyncGenerator[tuple[StockCalls, Wire], None]:
    async with AsyncExitStack() as stack:
        serving = {"REST": serving_rest, "gRPC": serving_grpc, "Thrift": serving_thrift}[protocol]
        port = await stack.enter_async_context(serving(desk))
        wire = await stack.enter_async_context(counted(port))
        calls: StockCalls
        if protocol == "REST":
            http = HttpClient(f"http://127.0.0.1:{wire.port}", connect_timeout_s=_TIMEOUT_S)
            calls = RestStock(await stack.enter_async_context(http))
        elif protocol == "gRPC":
            calls = await stack.enter_async_context(GrpcStock(f"127.0.0.1:{wire.port}"))
        else:
            calls = await stack.enter_async_context(ThriftStock("127.0.0.1", wire.port))
        yield calls, wire


def _hold(number: int, lines: int) -> Hold:
    products = tuple(HoldLine(f"product-{line:04}", 1 + line % 3) for line in range(lines))
    return Hold(f"{number:036}", products, 60.0)


def _desk() -> StockDesk:
    return StockDesk({f"product-{line:04}": _PIECES for line in range(max(LINES))}, SystemClock())


async def _measure(protocol: Protocol, lines: int, calls: int) -> Seen:
    desk = _desk()
    async with _connected(protocol, desk) as (stock, wire):
        for number in range(10):  # connection, header tables, first imports
            await stock.hold(_hold(number, lines), timeout_s=_TIMEOUT_S)
        before, cpu_s = wire.bytes, time.process_time()
        for number in range(10, 10 + calls):
            if not await stock.hold(_hold(number, lines), timeout_s=_TIMEOUT_S):
                raise AssertionError("a new hold was taken for an old one")
        spent_s = time.process_time() - cpu_s
        on_the_wire = wire.bytes - before
    return Seen(lines, on_the_wire / calls, 1000 * spent_s / calls)


async def _at_once(protocol: Protocol) -> int:
    """Connections that AT_ONCE calls need while all of them wait for the same approval."""
    waiting = 0
    everybody = asyncio.Event()

    async def all_together(_hold: Hold, _left_s: float | None) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == AT_ONCE:
            everybody.set()
        await everybody.wait()

    free = {"product-0000": _PIECES}
    desk = StockDesk(free, SystemClock(), approval=all_together)
    async with _connected(protocol, desk) as (stock, wire):
        holds = [_hold(number, 1) for number in range(AT_ONCE)]
        await asyncio.gather(*(stock.hold(hold, timeout_s=_TIMEOUT_S) for hold in holds))
        return wire.connections


def _arm(protocol: Protocol, seen: list[Seen], connections: int | None) -> Arm:
    return Arm(
        protocol,
        "control" if protocol == "REST" else "treatment",
        {
            **{f"bytes_{one.lines}_lines": round(one.bytes) for one in seen},
            "cpu_ms_1_line": round(seen[0].cpu_ms, 2),
            "cpu_ms_50_lines": round(seen[-1].cpu_ms, 2),
            "connections_20_at_once": connections,
        },
        tuple((float(one.lines), one.bytes) for one in seen),
    )


def _claims(
    seen: dict[Protocol, list[Seen]], connections: dict[Protocol, int]
) -> tuple[Claim, ...]:
    rest, grpc, thrift = (seen[protocol] for protocol in PROTOCOLS)
    ratios = [round(one.bytes / other.bytes, 2) for one, other in zip(rest, grpc, strict=True)]
    a_line = {name: (of_one[-1].bytes - of_one[0].bytes) / 49 for name, of_one in seen.items()}
    return (
        Claim(
            "REST sends more bytes than gRPC at every size, at least half as many again",
            min(ratios) >= 1.5,
            f"{ratios} times",
        ),
        Claim(
            "a line costs REST at least twice what it costs gRPC: names and quotes, not headers",
            a_line["REST"] >= 2 * a_line["gRPC"],
            f"{ {name: round(size, 1) for name, size in a_line.items()} } bytes a line",
        ),
        Claim(
            "Thrift's binary protocol lies between them for large holds: fields without packing",
            grpc[-1].bytes < thrift[-1].bytes < rest[-1].bytes,
            f"{[round(of_one[-1].bytes) for of_one in (grpc, thrift, rest)]} bytes",
        ),
        Claim(
            "calls at once share one connection over gRPC and need one each over HTTP/1.1",
            (connections["REST"], connections["gRPC"]) == (AT_ONCE, 1),
            f"{connections}",
        ),
    )


EXPERIMENT = Experiment(
    slug="rest-vs-grpc",
    question="What does a call send over REST, over gRPC and over Thrift?",
    varied="the protocol and the number of lines: 1, 5, 20, 50",
    fixed="the desk behind the doors, the holds, a warm connection",
    run=run,
    topics=("C12", "P1.3"),
)
