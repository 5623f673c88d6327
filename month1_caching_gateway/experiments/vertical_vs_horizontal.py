"""What do more cores give one process, and what do more processes give behind a balancer?

The same app computes about ten milliseconds for each request. It runs as one process that may use
more and more cores (vertical), and as more and more processes (horizontal), always behind this
month's gateway, under closed-loop load that keeps every process busy. Arms take turns within each
round. The measure is the CPU time that the app's processes got, in cores: what the operating system
says, so a busy neighbour makes it smaller but never larger.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from month1_caching_gateway.experiments.busy_service import chain
from month1_caching_gateway.experiments.scaling_laws import Point, fit_amdahl, fit_usl
from scalelab.clients.http import HttpClient
from scalelab.errors import CorruptData, Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.runtime import Runtime, ServiceSpec

CALLERS_A_PROCESS = 3
TOLERANCE = 1.1
"""Readings of CPU time come in ticks of 10 ms; a law that says 1 may read a little more."""


BUSY_BELOW = 0.8
"""Of a core: who gets less while it has work at all times has neighbours."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How many processes get the load, and how many cores all of them together may use."""

    processes: int
    cores: int

    def __str__(self) -> str:
        return f"{self.processes} on {self.cores}"


@dataclass(frozen=True, slots=True)
class Reading:
    """One turn. cores: CPU seconds per second. cpu_ms: of the app for one request."""

    cores: float
    per_s: float
    cpu_ms: float


def run(lab: Lab) -> Result:
    """Start the processes once; pin and load them as each setup says, in turns."""
    if not hasattr(os, "sched_setaffinity"):
        raise Unavailable(
            "This machine cannot tie processes to cores (Linux can), so nothing was measured.",
            code="capability_missing",
        )
    usable = sorted(os.sched_getaffinity(0))[:8]
    setups = setups_for(len(usable), quick=lab.quick)
    most = max(setup.processes for setup in setups)
    rounds, turn_s = (4, 1.0) if lab.quick else (10, 2.0)
    url, pids = _start(lab.runtime, lab.folder, most)
    lab.note(f"{len(usable)} usable cores; {rounds} rounds of {len(setups)} setups")
    readings: dict[Setup, list[Reading]] = {setup: [] for setup in setups}
    try:
        for index in range(rounds):
            order = setups if index % 2 == 0 else list(reversed(setups))
            for setup in order:
                _pin(pids, usable[: setup.cores])
                turn = _turn(url, pids[: setup.processes], setup.processes, turn_s)
                readings[setup].append(asyncio.run(turn))
    finally:
        for name in ("busy-gateway", *(f"busy-{number}" for number in range(1, most + 1))):
            lab.runtime.stop(name)
    return _result(readings, len(usable))


def setups_for(cores: int, *, quick: bool) -> list[Setup]:
    """What is measured where so many cores may be used: up, out, and two processes on one core."""
    sizes = [size for size in (1, 2, 4, 8) if size <= cores]
    wide = [*sizes, *(() if quick else (3,) if cores < 4 else (3, 6)), 2 * sizes[-1]]
    vertical = [Setup(1, size) for size in sizes]
    horizontal = [Setup(size, min(size, cores)) for size in sorted(set(wide))]
    crowded = [Setup(2, 1)]
    return list(dict.fromkeys([*vertical, *horizontal, *crowded]))


def _start(runtime: Runtime, folder: Path, most: int) -> tuple[str, list[int]]:
    """The app's processes and a gateway with a route for each group of the first n of them."""
    ports = [runtime.port(f"busy-{number}", 0) for number in range(1, most + 1)]
    module = "month1_caching_gateway.experiments.busy_service"
    services = [
        ServiceSpec(f"busy-{number}", ("python", "-m", module, str(port)), port=port)
        for number, port in enumerate(ports, 1)
    ]
    runtime.services(*services)
    routes = folder / "routes.yaml"
    routes.write_text(_routes(ports), encoding="utf-8")
    front, admin = runtime.port("busy-gateway", 0), runtime.port("busy-gateway-admin", 0)
    argv = ("python", "-m", "month1_caching_gateway.gateway", "--config", str(routes))
    runtime.service(
        ServiceSpec(
            "busy-gateway",
            (*argv, "--port", str(front), "--admin-port", str(admin)),
            port=admin,
            env={"GATEWAY_REQUEST_LOG": "false", "GATEWAY_TRACE_RATIO": "0"},
        )
    )
    running = {process.name: process.pid for process in runtime.status()}
    pids = [running[spec.name] for spec in services]
    return f"http://127.0.0.1:{front}", [pid for pid in pids if pid is not None]


def _routes(ports: Sequence[int]) -> str:
    lines = ["upstreams:"]
    for size in range(1, len(ports) + 1):
        endpoints = ", ".join(f'{{host: "127.0.0.1", port: {port}}}' for port in ports[:size])
        lines.append(f"  group{size}: {{endpoints: [{endpoints}]}}")
    lines.append("routes:")
    lines += [
        f"  - {{template: /{size}/work, upstream: group{size}, auth: none, timeout_s: 60}}"
        for size in range(1, len(ports) + 1)
    ]
    return "\n".join(lines) + "\n"


def _pin(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Let every thread of the processes run on these cores only."""
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)


async def _turn(url: str, pids: Sequence[int], group: int, turn_s: float) -> Reading:
    """Keep every process of the group busy for `turn_s`; what they got and did."""
    processes = [psutil.Process(pid) for pid in pids]
    wanted, done, over = chain(), 0, False

    async def caller(client: HttpClient) -> None:
        nonlocal done
        while not over:
            if (await client.get(f"/{group}/work")).json()["digest"] != wanted:
                raise CorruptData("the app computed something else")
            done += 1

    async with (
        HttpClient(url, timeout_s=60.0, connect_timeout_s=30.0) as client,
        asyncio.TaskGroup() as callers,
    ):
        for _ in range(CALLERS_A_PROCESS * group):
            callers.create_task(caller(client))
        await asyncio.sleep(0.2)  # every process has work
        cpu_s, at_s, before = _cpu_s(processes), time.perf_counter(), done
        await asyncio.sleep(turn_s)
        cpu_s = _cpu_s(processes) - cpu_s
        elapsed_s, count = time.perf_counter() - at_s, done - before
        over = True
    return Reading(cpu_s / elapsed_s, count / elapsed_s, cpu_s * 1000 / max(count, 1))


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _result(readings: dict[Setup, list[Reading]], cores: int) -> Result:
    got = {setup: median(one.cores for one in of_one) for setup, of_one in readings.items()}
    alone = got[Setup(1, 1)]
    vertical = [setup for setup in got if setup.processes == 1]
    horizontal = sorted(
        (setup for setup in got if setup.cores == min(setup.processes, cores)),
        key=lambda setup: setup.processes,
    )
    up = [(float(setup.cores), got[setup] / alone) for setup in vertical]
    out = [(float(setup.processes), got[setup] / alone) for setup in horizontal]
    crowded = [setup for setup in got if setup not in vertical]
    laws, notes = _laws(out, cores)
    if alone < BUSY_BELOW:
        notes = (
            *notes,
            f"Alone on a core, one process got {alone:.2f} of it: neighbours were busy. The "
            "scheduler then gives more processes more turns. On a quiet machine it shows that "
            "two processes on one core do no more than one.",
        )
    arms = (
        Arm("one process, more cores", "control", _figures(readings, vertical), tuple(up)),
        Arm("more processes, balanced", "treatment", _figures(readings, crowded), tuple(out)),
        *laws,
    )
    plot = Plot(Axis("cores of the one process, or processes"), Axis("cores used, relative to 1"))
    return Result(arms, _shape(readings, got, cores), plot, notes)


def _figures(readings: dict[Setup, list[Reading]], setups: Sequence[Setup]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for setup in setups:
        name = str(setup).replace(" ", "_")
        figures[f"cores_{name}"] = round(median(one.cores for one in readings[setup]), 2)
        figures[f"per_s_{name}"] = round(median(one.per_s for one in readings[setup]), 1)
    return figures


def _laws(points: list[Point], cores: int) -> tuple[list[Arm], tuple[str, ...]]:
    sizes = sorted({n for n, _ in points})
    ideal = tuple((n, min(n, float(cores))) for n in sizes)
    arms = [Arm("as many as there are cores", "limit", {}, ideal)]
    inside = [(n, c) for n, c in points if n <= cores]
    notes = [f"This machine lets {cores} cores be used; load and balancer need some of them, too."]
    if len(inside) > 1:
        amdahl = fit_amdahl(inside)
        line = tuple((n, amdahl.speedup(n)) for n in sizes)
        arms.append(
            Arm(
                "Amdahl, fitted up to the cores",
                "theory",
                {"serial": round(amdahl.serial, 3)},
                line,
            )
        )
    if len([n for n in sizes if n > 1]) > 1:
        usl = fit_usl(points)
        line = tuple((n, usl.speedup(n)) for n in sizes)
        figures = {"serial": round(usl.serial, 3), "crosstalk": round(usl.crosstalk, 4)}
        arms.append(Arm("USL, fitted to all", "theory", figures, line))
    if cores < 4:
        notes.append(
            "Two cores are one step: Amdahl's line has one point to stand on, and what the USL "
            "calls crosstalk is here mostly processes waiting for a core. Read both on 8 cores."
        )
    return arms, tuple(notes)


def _shape(
    readings: dict[Setup, list[Reading]], got: dict[Setup, float], cores: int
) -> tuple[Claim, ...]:
    costs = {setup: median(one.cpu_ms for one in of_one) for setup, of_one in readings.items()}
    spread = max(costs.values()) / min(costs.values())
    alone = {setup: value for setup, value in got.items() if setup.processes == 1}
    claims = [
        Claim(
            "One process uses one core, however many it may have.",
            all(value <= TOLERANCE for value in alone.values()),
            ", ".join(f"{setup}: {value:.2f}" for setup, value in alone.items()),
        ),
        Claim(
            "Processes use no more cores than there are for them.",
            all(value <= TOLERANCE * setup.cores for setup, value in got.items()),
            ", ".join(f"{setup}: {value:.2f}" for setup, value in got.items()),
        ),
        Claim(
            "A request costs the same CPU time everywhere (within a factor of 1.7).",
            spread <= 1.7,
            f"{min(costs.values()):.1f} to {max(costs.values()):.1f} ms",
        ),
    ]
    if cores >= 2:
        pairs = zip(readings[Setup(2, 2)], readings[Setup(1, 2)], strict=True)
        ratio = median(two.cores / max(one.cores, 1e-6) for two, one in pairs)
        claims.append(
            Claim(
                "Where there are two cores, two processes use 1.3 to 2.3 times what one does.",
                1.3 <= ratio <= 2.3,
                f"{ratio:.2f} times, median of the rounds",
            )
        )
    return tuple(claims)


EXPERIMENT = Experiment(
    slug="vertical-vs-horizontal",
    question="What do more cores give one process, and more processes behind a balancer?",
    varied="cores that one process may use; processes behind the gateway",
    fixed="the app, the work of a request, three callers a process, turns within each round",
    run=run,
    topics=("A20",),
)
