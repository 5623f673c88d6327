"""What does a request pay for a gateway, and what for the checks a gateway makes?

One service answers 259 bytes of JSON at once. It is asked directly, through nginx, and through this
month's gateway twice: passing through (routes, header hygiene, log, metrics, breaker), and with all
checks (a verified token, an allowance). Arms take turns in every round, on keep-alive connections
that check every answer. The measure is the CPU time of the process in question per answer, which a
busy neighbour changes little; latencies come from an open loop at one rate for all arms and are
shown beside the direct arm, and judged by nobody.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

import uvloop

from month1_caching_gateway.experiments import overhead_process
from month1_caching_gateway.experiments.overhead_load import Target, closed_loop, open_loop
from month1_caching_gateway.experiments.overhead_process import (
    BODY,
    FULL,
    PASS_THROUGH,
    SERVICE,
    process,
    request_with,
)
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Nginx
from scalelab.lab.servers.processes import family

CONNECTIONS = 16
RATE_PER_S = 200.0
"""Of the open loop: a small part of what any arm carries on a busy laptop."""

DIRECT, NGINX = "direct", "nginx"
ARMS = (DIRECT, NGINX, PASS_THROUGH, FULL)
_ROLES: dict[str, Role] = {DIRECT: "control", NGINX: "limit"}

NGINX_CONFIG = """
  upstream app { server 127.0.0.1:UPSTREAM; keepalive 256; }
  server {
    listen 127.0.0.1:$PORT;
    keepalive_requests 100000000;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
"""


@dataclass
class Asked:
    """One arm. pid: of the process that is billed, with its children."""

    pid: int
    target: Target
    costs_us: list[float] = field(default_factory=list[float])
    latencies_ms: list[float] = field(default_factory=list[float])
    answers: int = 0

    @property
    def cpu_us(self) -> float:
        """CPU per answer: the median of the rounds."""
        return median(self.costs_us)


def run(lab: Lab) -> Result:
    """Start the four, ask them in turns, compare what they spent."""
    rounds, round_s, open_s = (5, 0.5, 1.5) if lab.quick else (15, 1.5, 8.0)
    with ExitStack() as stack:
        asked = _started(lab, stack)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        lab.note(f"{rounds} rounds of {round_s} s an arm, then {open_s} s at {RATE_PER_S:.0f}/s")
        for number in range(rounds + 1):
            for name in ARMS[:: -1 if number % 2 else 1]:
                cost_us, answers = _closed(runner, asked[name], round_s)
                if number:  # the first round warms up
                    asked[name].costs_us.append(cost_us)
                    asked[name].answers += answers
        for name in ARMS:
            plan = random.Random(lab.seed)  # the same instants for every arm
            target = asked[name].target
            load = open_loop(target, rate_per_s=RATE_PER_S, seconds=open_s, generator=plan)
            asked[name].latencies_ms = runner.run(load)
    return _result(asked)


def _started(lab: Lab, stack: ExitStack) -> dict[str, Asked]:
    module = overhead_process.__name__
    pid, port, _ = stack.enter_context(process([module, SERVICE]))
    asked = {DIRECT: Asked(pid, _target(port, "none"))}
    nginx = Nginx(NGINX_CONFIG.replace("UPSTREAM", str(port)), "nginx-gateway-overhead")
    lab.runtime.start(nginx)
    stack.callback(lab.runtime.stop, nginx.name)
    (nginx_pid,) = (one.pid for one in lab.runtime.status() if one.name == nginx.name)
    asked[NGINX] = Asked(nginx_pid or 0, _target(nginx.port, "none"))
    for name in (PASS_THROUGH, FULL):
        argv = [module, name, "--upstream", str(port)]
        pid, own, token = stack.enter_context(process(argv))
        asked[name] = Asked(pid, _target(own, token))
    return asked


def _target(port: int, token: str) -> Target:
    return Target(port, request_with(token), BODY)


def _closed(runner: asyncio.Runner, one: Asked, seconds: float) -> tuple[float, int]:
    """CPU µs per answer in a closed loop, and how many answers came."""
    before_s = _cpu_s(one.pid)
    answers = runner.run(closed_loop(one.target, connections=CONNECTIONS, seconds=seconds))
    return (_cpu_s(one.pid) - before_s) / answers * 1e6, answers


def _cpu_s(pid: int) -> float:
    return sum(sum(member.cpu_times()[:2]) for member in family(pid))


def _result(asked: dict[str, Asked]) -> Result:
    return Result(
        arms=tuple(_arm(name, number, asked[name]) for number, name in enumerate(ARMS)),
        shape=_claims({name: one.cpu_us for name, one in asked.items()}),
        plot=Plot(Axis("arm"), Axis("CPU of the process (µs/answer)"), "bars"),
        notes=(
            f"{CONNECTIONS} keep-alive connections in the closed loop; every answer was compared.",
            "The direct arm bills the service itself: the price of reading and writing one small "
            "message. A proxy does that twice.",
            "nginx writes no log here; the gateway makes its log lines, and nobody keeps them.",
            "Latencies begin at the instant a request was due. Load and subjects share this "
            "machine's cores, so look at the difference to the direct arm, and do not quote it.",
        ),
    )


def _arm(name: str, number: int, one: Asked) -> Arm:
    late = one.latencies_ms
    figures = {
        "cpu_us": round(one.cpu_us, 1),
        "answers": one.answers,
        "p50_ms": round(late[len(late) // 2], 2),
        "p99_ms": round(late[int(0.99 * (len(late) - 1))], 2),
    }
    return Arm(name, _ROLES.get(name, "treatment"), figures, ((float(number), one.cpu_us),))


def _claims(cpu_us: dict[str, float]) -> tuple[Claim, ...]:
    direct, nginx, plain, full = (cpu_us[name] for name in ARMS)
    return (
        Claim(
            "A proxy costs more CPU than the service that answers at once, whoever wrote it.",
            direct < min(nginx, plain),
            f"{direct:.0f} µs directly, {nginx:.0f} µs nginx, {plain:.0f} µs the gateway",
        ),
        Claim(
            "Passing through this gateway costs 1.2 to 6 times what it costs through nginx.",
            1.2 <= plain / nginx <= 6.0,
            f"{plain / nginx:.1f} times",
        ),
        Claim(
            "The checks cost something, and less than passing through does.",
            plain < full < 2.5 * plain,
            f"{plain:.0f} µs without, {full:.0f} µs with token and allowance",
        ),
    )


EXPERIMENT = Experiment(
    slug="gateway-overhead",
    question="What does a request pay for a gateway, and what for its checks?",
    varied="what stands between the client and the service",
    fixed=f"one service, one request, {CONNECTIONS} connections, arms in turns",
    run=run,
    topics=("A1", "P1.1"),
    needs=("nginx",),
)
