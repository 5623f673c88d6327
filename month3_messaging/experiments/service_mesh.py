"""What does a mesh do for a service that knows nothing of it, and what does it cost?

A stock service in three instances of two versions. The weight of the new version is raised; then
one instance of the old one is killed, and calls go on without a mesh (the caller takes turns over
the instances) and through sidecars. Failures and answers are counted; times and bytes are printed.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from month3_messaging.experiments.counted_wire import Wire, counted
from month3_messaging.experiments.mesh_bed import PENS, SHOP, STOCK, MeshBed
from month3_messaging.mesh import Ejection, Outbound, Retries, Version, cluster_name
from month3_messaging.rpc import RestStock
from scalelab.clients.http import HttpClient
from scalelab.errors import Retryable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

WEIGHTS = (0, 5, 25, 50, 100)
_LONG_S = 60.0
_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Kill:
    """Calls while one of two instances is dead. tries: requests that reached its door or place."""

    calls: int
    failed: int
    retries: int
    ejected: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one small call, one after the other on a warm connection."""

    bytes: float
    p50_ms: float


def run(lab: Lab) -> Result:
    """Costs, then the split, then a death without and with the mesh."""
    return asyncio.run(_run(lab))


async def _run(lab: Lab) -> Result:
    calls = 200 if lab.quick else 2000
    bed = MeshBed(lab.runtime, lab.folder / "authority")
    async with counted(bed.doors["a"]) as inside, counted(bed.services["a"]) as outside:
        _add_ways(bed, inside.port)
        lab.note("three instances and four sidecars start")
        await asyncio.to_thread(bed.start)
        lab.note(f"{calls} calls each: cost")
        plain = await _cost(outside.port, outside, calls)
        meshed = await _cost(bed.ways["cost"].port, inside, calls)
    lab.note(f"{calls} calls for each weight of the new version")
    shares = [await _share(bed, weight, calls) for weight in WEIGHTS]
    lab.note("an instance is killed")
    lab.runtime.kill("service-b")
    alone = await _alone(bed, calls)
    helped = await _helped(bed, calls)
    return Result(
        arms=(
            _kill_arm("without a mesh", "control", alone, plain),
            _kill_arm("through sidecars", "treatment", helped, meshed),
            _share_arm("share of version 2", "treatment", shares),
            _share_arm("theory: its weight", "theory", [weight / 100 for weight in WEIGHTS]),
        ),
        shape=_claims(alone, helped, shares, calls),
        plot=Plot(Axis("weight of version 2 (%)"), Axis("share of calls it answered")),
        notes=(
            "Bytes are those between caller and service without a mesh, and those between the two "
            "sidecars (TLS and HTTP/2) with it. Both of a warm connection.",
            "Times are printed, not claimed: everything shares the processors.",
        ),
    )


def _add_ways(bed: MeshBed, wire_to_a: int) -> None:
    a, b, canary = (bed.doors[name] for name in PENS)
    retries, never = Retries(2, _LONG_S), Ejection(failures=1000)
    one = (Version("v1", 1, (wire_to_a,)),)
    bed.way("cost", Outbound(STOCK, 0, one, _LONG_S, retries, never))
    for weight in WEIGHTS:
        versions = (Version("v1", 100 - weight, (a, b)), Version("v2", weight, (canary,)))
        bed.way(f"split-{weight}", Outbound(STOCK, 0, versions, _LONG_S, retries, never))
    both = (Version("v1", 1, (a, b)),)
    ejection = Ejection(_FAILURES, ejected_s=600.0)
    bed.way("kill", Outbound(STOCK, 0, both, _LONG_S, retries, ejection))


@asynccontextmanager
async def _stock(port: int) -> AsyncGenerator[RestStock, None]:
    http = HttpClient(f"http://127.0.0.1:{port}", timeout_s=_LONG_S, connect_timeout_s=_LONG_S)
    async with http:
        yield RestStock(http)


async def _cost(port: int, wire: Wire, calls: int) -> Cost:
    times: list[float] = []
    async with _stock(port) as stock:
        for _ in range(10):  # connections, handshakes, header tables
            await stock.levels(["pen"], timeout_s=_LONG_S)
        before = wire.bytes
        for _ in range(calls):
            begun_s = time.monotonic()
            await stock.levels(["pen"], timeout_s=_LONG_S)
            times.append(1000 * (time.monotonic() - begun_s))
        return Cost((wire.bytes - before) / calls, statistics.median(times))


async def _share(bed: MeshBed, weight: int, calls: int) -> float:
    seen = 0
    async with _stock(bed.ways[f"split-{weight}"].port) as stock:
        for _ in range(calls):
            levels = await stock.levels(["pen"], timeout_s=_LONG_S)
            seen += levels["pen"] == PENS["canary"]
    return seen / calls


async def _alone(bed: MeshBed, calls: int) -> Kill:
    """The caller takes turns over both instances, which is all it knows."""
    failed = 0
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(_stock(bed.services[name])) for name in ("a", "b")]
        for number in range(calls):
            failed += not await _answered(both[number % 2])
    return Kill(calls, failed, retries=0, ejected=0)


async def _helped(bed: MeshBed, calls: int) -> Kill:
    failed = 0
    way = bed.ways["kill"]
    async with _stock(way.port) as stock:
        for _ in range(calls):
            failed += not await _answered(stock)
    counts = bed.envoy(SHOP).counters(f"cluster.{cluster_name(way, way.versions[0])}.")
    ejected = counts["outlier_detection.ejections_active"]
    return Kill(calls, failed, counts["upstream_rq_retry"], ejected)


async def _answered(stock: RestStock) -> bool:
    try:
        await stock.levels(["pen"], timeout_s=_LONG_S)
    except Retryable:
        return False
    return True


def _kill_arm(name: str, role: str, kill: Kill, cost: Cost) -> Arm:
    return Arm(
        name,
        "control" if role == "control" else "treatment",
        {
            "calls": kill.calls,
            "failed": kill.failed,
            "retries": kill.retries,
            "ejected": kill.ejected,
            "bytes_a_call": round(cost.bytes),
            "p50_ms": round(cost.p50_ms, 2),
        },
    )


def _share_arm(name: str, role: str, shares: Sequence[float]) -> Arm:
    return Arm(
        name,
        "theory" if role == "theory" else "treatment",
        {f"share_{weight}": round(s, 3) for weight, s in zip(WEIGHTS, shares, strict=True)},
        tuple((float(weight), share) for weight, share in zip(WEIGHTS, shares, strict=True)),
    )


def _claims(alone: Kill, helped: Kill, shares: Sequence[float], calls: int) -> tuple[Claim, ...]:
    off = [
        abs(share - weight / 100) * calls
        <= 4 * math.sqrt(calls * weight / 100 * (1 - weight / 100)) + 1e-9
        for weight, share in zip(WEIGHTS, shares, strict=True)
    ]
    return (
        Claim(
            "without a mesh every call whose turn is the dead instance's fails: half of them",
            alone.failed == alone.calls / 2,
            f"{alone.failed} of {alone.calls}",
        ),
        Claim(
            "through sidecars none fails, and the service's code is the same",
            helped.failed == 0,
            f"{helped.failed} of {helped.calls}",
        ),
        Claim(
            "it takes as many retries as failures in a row put an instance out, then none",
            (helped.retries, helped.ejected) == (_FAILURES, 1),
            f"{helped.retries} retries, {helped.ejected} instance put out",
        ),
        Claim(
            "a version gets its weight's share, within four standard deviations; 0 and 100 exactly",
            all(off),
            f"{[round(share, 3) for share in shares]} at weights {list(WEIGHTS)} %",
        ),
    )


EXPERIMENT = Experiment(
    slug="service-mesh",
    question="What does a mesh do for a service that knows nothing of it?",
    varied="whether calls go through sidecars; the weight of a new version: 0 to 100 %",
    fixed="the services and their code, the calls, which instance dies",
    run=run,
    topics=("C10",),
    needs=("envoy",),
)
