"""What does an edge save the origin, what does a near one save the reader, and what when all fails?

An origin 45 ms away (one way), an edge point 2 ms and another 20 ms away, both before the same
origin: real nginx, real distance in between (a proxy that delays). The same reader asks for the
same addresses straight at the origin, at the far edge and at the near one; the origin's log counts.
Then one address is purged in both edges; then the origin dies while a short-lived page is read.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from month1_caching_gateway.edge import (
    EdgePoint,
    EdgeResolver,
    EdgeSettings,
    Servers,
    edge_config,
    purge,
)
from scalelab.clock import SystemClock
from scalelab.errors import Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.faults import DelayProxy, Line
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx

ORIGIN_S, FAR_S, NEAR_S = 0.045, 0.020, 0.002
"""One way. An edge's own way to the origin is as long as the reader's."""
READERS = 4
HOST = "127.0.0.1"
DEADLINE_S = 30.0
SHORT = "/short/page"

ORIGIN = """
  log_format asked '$uri';
  server {
    listen 127.0.0.1:$PORT;
    access_log $DIR/asked.log asked;
    default_type text/plain;
    location = /ready { access_log off; return 200; }
    location /long/ { add_header Cache-Control "public, max-age=3600"; return 200 "long\\n"; }
    location /short/ { add_header Cache-Control "public, max-age=1"; return 200 "short\\n"; }
  }
"""


@dataclass
class Door:
    """One way to the content. asked: by the origin's log, for this arm alone."""

    name: str
    url: str
    role: Role
    asked: int = 0
    times_s: list[float] = field(default_factory=list[float])
    statuses_without_origin: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True)
class Bed:
    """What runs: nginx processes, and the lines to them."""

    runtime: Runtime
    origin: Nginx
    edges: tuple[Nginx, Nginx]
    doors: tuple[Door, Door, Door]
    session: aiohttp.ClientSession

    def asked(self) -> list[str]:
        """Every address the origin was asked for, so far as its log has it."""
        path = self.origin.folder / "asked.log"
        return path.read_text(encoding="utf-8").split() if path.exists() else []


def run(lab: Lab) -> Result:
    """Start three nginx, put them at their distances, and read."""
    return asyncio.run(_run(lab))


async def _run(lab: Lab) -> Result:
    addresses, rounds = (20, 4) if lab.quick else (60, 10)
    async with AsyncExitStack() as stack:
        bed = await _bed(lab, stack)
        for door in bed.doors:
            before = len(bed.asked())
            await _read(bed.session, door, addresses, rounds)
            expected = addresses * rounds if door.role == "control" else addresses
            door.asked = await _settled(bed, before + expected) - before
            lab.note(f"{door.name}: the origin was asked {door.asked} times")
        chosen = await _choice(bed)
        purged = await _purge(bed)
        first, second = await _without_origin(bed)
        again = f"then {second}"
        lab.note(f"the client chose {chosen}, {again}; a purge cost the origin {purged} requests")
    requests = addresses * rounds
    return Result(
        arms=tuple(_arm(door, requests) for door in bed.doors),
        shape=_claims(bed.doors, addresses, requests, (chosen, first, second), purged),
        plot=Plot(Axis(""), Axis("median time of a request (ms)"), "bars"),
        notes=(
            f"One way: origin {1000 * ORIGIN_S:g} ms, far edge {1000 * FAR_S:g} ms, near edge "
            f"{1000 * NEAR_S:g} ms; an edge pays the origin's distance on a miss.",
            f"{addresses} addresses, each read {rounds} times by {READERS} readers in turn.",
            "Stale answers have no bound here but the cache's: see the page for the trade-off.",
        ),
    )


async def _bed(lab: Lab, stack: AsyncExitStack) -> Bed:
    runtime = lab.runtime
    origin = Nginx(ORIGIN, "cdn-origin", ready_path="/ready")
    await asyncio.to_thread(runtime.start, origin)
    stack.push_async_callback(asyncio.to_thread, runtime.stop, origin.name)
    clear = origin.folder / "asked.log"
    if clear.exists():
        os.truncate(clear, 0)
    long_way = await stack.enter_async_context(_away(origin.port, ORIGIN_S))
    edges = tuple(
        Nginx(edge_config(_edge(name, long_way.port)), f"cdn-{name}", ready_path="/edge/health")
        for name in ("far", "near")
    )
    await asyncio.to_thread(runtime.start, *edges)
    for edge in edges:
        stack.push_async_callback(asyncio.to_thread, runtime.stop, edge.name)
    far = await stack.enter_async_context(_away(edges[0].port, FAR_S))
    near = await stack.enter_async_context(_away(edges[1].port, NEAR_S))
    doors = (
        Door("origin", f"http://{HOST}:{long_way.port}", "control"),
        Door("far edge", f"http://{HOST}:{far.port}", "treatment"),
        Door("near edge", f"http://{HOST}:{near.port}", "treatment"),
    )
    session = await stack.enter_async_context(
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S))
    )
    return Bed(runtime, origin, (edges[0], edges[1]), doors, session)


def _away(port: int, one_way_s: float) -> DelayProxy:
    return DelayProxy(port, up=Line(one_way_s), down=Line(one_way_s))


def _edge(name: str, origin_port: int) -> EdgeSettings:
    return EdgeSettings(name, (HOST,), Servers((f"{HOST}:{origin_port}",), max_fails=0))


async def _read(session: aiohttp.ClientSession, door: Door, addresses: int, rounds: int) -> None:
    """Every address once a round. Readers share a round's addresses, so none is asked twice at
    once: what the origin is asked depends on no race."""
    for _ in range(rounds):
        await asyncio.gather(
            *(_reader(session, door, range(first, addresses, READERS)) for first in range(READERS))
        )


async def _reader(session: aiohttp.ClientSession, door: Door, numbers: Sequence[int]) -> None:
    for number in numbers:
        began_s = time.monotonic()
        if await _status(session, f"{door.url}/long/{number}") != 200:
            raise Unavailable(f"{door.name} did not answer")
        door.times_s.append(time.monotonic() - began_s)


async def _status(session: aiohttp.ClientSession, url: str) -> int:
    """The status of an answer that came whole; 0 if none did."""
    try:
        async with session.get(url) as answer:
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, OSError):
        return 0


async def _settled(bed: Bed, at_least: int) -> int:
    """Lines of the origin's log, once they are as many as expected and no more come."""
    give_up_s = time.monotonic() + DEADLINE_S
    last, same = -1, 0
    while same < 10 and time.monotonic() < give_up_s:
        count = len(bed.asked())
        same = same + 1 if count == last and count >= at_least else 0
        last = count
        await asyncio.sleep(0.02)
    return len(bed.asked())


async def _choice(bed: Bed) -> str:
    """Where a client goes by its own measurements."""
    _, far, near = bed.doors
    resolver = EdgeResolver(_points(far, near), bed.session, SystemClock(), timeout_s=10.0)
    await resolver.measure()
    return resolver.pick().name


def _points(*doors: Door) -> list[EdgePoint]:
    return [EdgePoint(door.name, door.url) for door in doors]


async def _purge(bed: Bed) -> int:
    """Purge one address in both edges, read it there twice; what the origin was asked."""
    before = await _settled(bed, 0)
    for edge in bed.edges:
        await asyncio.to_thread(purge, Path(edge.folder) / "cache", "/long/1")
    for _ in range(2):
        for door in bed.doors[1:]:
            await _status(bed.session, f"{door.url}/long/1")
    return await _settled(bed, before + len(bed.edges)) - before


async def _without_origin(bed: Bed) -> tuple[str, str]:
    """Kill the origin, let the page's second pass, read on; then the near edge dies as well.

    Returns the edge chosen while both were there, and after.
    """
    for door in bed.doors[1:]:
        await _status(bed.session, door.url + SHORT)
    await asyncio.to_thread(bed.runtime.kill, bed.origin.name)
    await asyncio.sleep(1.5)  # the page's lifetime, not a wait for somebody
    for _ in range(20):
        for door in bed.doors:
            door.statuses_without_origin.append(await _status(bed.session, door.url + SHORT))
    _, far, near = bed.doors
    resolver = EdgeResolver(_points(far, near), bed.session, SystemClock(), timeout_s=10.0)
    await resolver.measure()
    first = resolver.pick().name
    await asyncio.to_thread(bed.runtime.kill, bed.edges[1].name)
    for _ in range(2):
        await resolver.measure()
    return first, resolver.pick().name


def _median_ms(door: Door) -> float:
    return round(1000 * statistics.median(door.times_s), 2)


def _arm(door: Door, requests: int) -> Arm:
    served = door.statuses_without_origin.count(200)
    figures = {
        "requests": requests,
        "origin_requests": door.asked,
        "median_ms": _median_ms(door),
        "served_without_origin": served,
        "asked_without_origin": len(door.statuses_without_origin),
    }
    return Arm(door.name, door.role, figures, ((0, _median_ms(door)),))


def _claims(
    doors: Sequence[Door],
    addresses: int,
    requests: int,
    chosen: tuple[str, str, str],
    purged: int,
) -> tuple[Claim, ...]:
    origin, far, near = doors
    medians = {door.name: _median_ms(door) for door in doors}
    dead = {door.name: door.statuses_without_origin.count(200) for door in doors}
    tried = len(origin.statuses_without_origin)
    return (
        Claim(
            "Without an edge the origin is asked for every request, with one for every address.",
            (origin.asked, far.asked, near.asked) == (requests, addresses, addresses),
            f"origin {origin.asked}, far {far.asked}, near {near.asked}; "
            f"{requests} requests for {addresses} addresses",
        ),
        Claim(
            "A reader waits least at the near edge, longer at the far one, longest at the origin.",
            medians["near edge"] < medians["far edge"] < medians["origin"],
            ", ".join(f"{name} {median:g} ms" for name, median in medians.items()),
        ),
        Claim(
            "A client finds the near edge by measuring, and the far one when the near one dies.",
            chosen == ("near edge", "near edge", "far edge"),
            ", then ".join(chosen),
        ),
        Claim(
            "A purged address costs the origin one request an edge, however often it is read.",
            purged == 2,
            f"{purged} requests for 4 reads at 2 edges",
        ),
        Claim(
            "With the origin dead both edges go on with what they keep; without an edge, nothing.",
            (dead["origin"], dead["far edge"], dead["near edge"]) == (0, tried, tried),
            ", ".join(f"{name} {count} of {tried}" for name, count in dead.items()),
        ),
    )


EXPERIMENT = Experiment(
    slug="cdn-edge-cache",
    question="What does an edge cache save the origin, and what does a near one save the reader?",
    varied="where the reader asks: at the origin, at an edge far away, at an edge nearby",
    fixed="the origin and its distance, the addresses, how often each is read, the readers",
    run=run,
    topics=("A1",),
    needs=("nginx",),
)
