"""The gateway per request, beside an aiohttp proxy, nginx and no proxy; its latency at half load.

One upstream process answers 280 bytes of JSON; this process is the load, keep-alive. The number is
CPU of the process under test, user and system with its children, per answered request: it does not
depend on how busy the other cores are. The upstream's own CPU is the floor for a process that reads
and writes one small message; a proxy does that twice. Latency is an open loop at half of what the
gateway carried, beside the same load sent straight to the upstream; with fewer than three cores the
load shares them with its subject, so it is shown and judged by nobody.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from bench._gateway_arms import BODY
from bench._http_load import Target, closed_loop, open_loop
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.machine import usable_cores
from scalelab.lab.course.ratio import Round, compare, is_void
from scalelab.lab.course.rounds import paired
from scalelab.lab.servers import Nginx, Redis, ServerMissing
from scalelab.lab.servers.processes import family

_ROOT = Path(__file__).resolve().parents[1]
_CONNECTIONS = 32
_ENOUGH_CORES = 3
_UNIT = "CPU µs/request"

_NGINX = """
  upstream app { server 127.0.0.1:UPSTREAM; keepalive 256; }
  server {
    listen 127.0.0.1:$PORT;
    keepalive_requests 100000000;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
"""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A process under test and how to ask it. costs, rates: of every round so far."""

    pid: int
    target: Target
    runner: asyncio.Runner
    costs_us: list[float]
    rates_per_s: list[float]

    def measure(self, seconds: float) -> float:
        """CPU µs per request of one round in a closed loop."""
        before_s, begun_s = _cpu_s(self.pid), time.perf_counter()
        load = closed_loop(self.target, connections=_CONNECTIONS, seconds=seconds)
        answers = self.runner.run(load)
        self.rates_per_s.append(answers / (time.perf_counter() - begun_s))
        self.costs_us.append((_cpu_s(self.pid) - before_s) / answers * 1e6)
        return self.costs_us[-1]

    def latencies_ms(self, rate_per_s: float, seconds: float, seed: int) -> list[float]:
        """Sorted latencies of one round in an open loop; the same seed plans the same instants."""
        load = open_loop(
            self.target, rate_per_s=rate_per_s, seconds=seconds, generator=random.Random(seed)
        )
        return self.runner.run(load)


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about five minutes."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        upstream = stack.enter_context(_arm(runner, "upstream"))
        to = ("--upstream", str(upstream.target.port))
        plain = stack.enter_context(_arm(runner, "gateway", *to))
        full = stack.enter_context(_arm(runner, "gateway-full", *to))
        peer = stack.enter_context(_arm(runner, "aiohttp", *to))
        shared = stack.enter_context(_arm(runner, "gateway-full", *to, "--redis", _redis(options)))
        control = compare(_rounds(options, "gateway, twice", plain, plain), options.generator)
        if is_void(control):
            options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
        figures: list[AnyFigure] = [
            _ratio(options, ("pass-through", plain), ("aiohttp proxy", peer), 4.0),
            *_beside_nginx(options, runner, plain, upstream.target.port),
            _ratio(options, ("token, limit, metrics", full), ("own pass-through", plain), 0.6),
        ]
        _rounds(options, "limits in Redis, and no proxy", shared, upstream)
        named = {
            "no proxy: the upstream alone": upstream,
            "pass-through": plain,
            "token, limit, metrics": full,
            "the same, limits in Redis": shared,
        }
        figures += [_shown(name, _UNIT, median(one.costs_us[1:])) for name, one in named.items()]
        return figures + _latencies(options, plain, upstream)


def _ratio(
    options: Options, ours: tuple[str, _Subject], peer: tuple[str, _Subject], gate: float
) -> Figure:
    """The peer's cost divided by ours."""
    rounds = _rounds(options, f"{ours[0]}, {peer[0]}", peer[1], ours[1])
    ratio = compare(rounds, options.generator)
    return Figure("gateway", ours[0], peer[0], f"{_UNIT}, peer / ours", ratio, "at_least", gate)


def _rounds(options: Options, what: str, a: _Subject, b: _Subject) -> list[Round]:
    options.note(f"in turns: {what}")
    return paired(a.measure, b.measure, rounds=options.rounds, round_s=options.round_s)


def _beside_nginx(
    options: Options, runner: asyncio.Runner, ours: _Subject, upstream_port: int
) -> list[AnyFigure]:
    """The ruler: a proxy in C that has been made faster for twenty years."""
    nginx = Nginx(_NGINX.replace("UPSTREAM", str(upstream_port)))
    try:
        options.runtime.start(nginx)
    except ServerMissing as missing:
        options.note(f"without nginx: {missing}")
        return []
    (pid,) = (one.pid for one in options.runtime.status() if one.name == nginx.name)
    ruler = _Subject(pid or 0, _target(nginx.port, "none"), runner, [], [])
    return [_ratio(options, ("pass-through", ours), ("nginx", ruler), 0.4)]


def _redis(options: Options) -> str:
    redis = Redis("redis")
    options.runtime.start(redis)
    return redis.url


def _latencies(options: Options, ours: _Subject, control: _Subject) -> list[AnyFigure]:
    """At half of what the gateway carried in its closed loops, in turns with no proxy."""
    rate = median(ours.rates_per_s) / 2
    options.note(f"open loop at {rate:.0f}/s: the gateway, no proxy")
    arms: dict[str, tuple[_Subject, list[list[float]]]] = {
        "pass-through": (ours, []),
        "no proxy": (control, []),
    }
    for number in range(options.rounds):
        seed = options.generator.randrange(2**31)
        for subject, rounds in list(arms.values())[:: -1 if number % 2 else 1]:
            rounds.append(subject.latencies_ms(rate, options.round_s, seed))
    figures: list[AnyFigure] = []
    for share, name, limit in ((0.50, "p50", 0.5), (0.99, "p99", 3.0)):
        found = {
            arm: median(one[int(share * (len(one) - 1))] for one in rounds)
            for arm, (_, rounds) in arms.items()
        }
        figures += [
            _shown(f"{name} at {rate:.0f}/s, {arm}", "ms", value) for arm, value in found.items()
        ]
        added = found["pass-through"] - found["no proxy"]
        judged = limit if usable_cores() >= _ENOUGH_CORES else None
        figures.append(_shown(f"{name} at {rate:.0f}/s, added", "ms", added, judged))
    return figures


def _shown(subject: str, unit: str, value: float, limit: float | None = None) -> LimitFigure:
    return LimitFigure("gateway", subject, unit, round(value, 3), "at_most", limit)


@contextmanager
def _arm(runner: asyncio.Runner, role: str, *options: str) -> Generator[_Subject]:
    """A process of that role; it ends when its standard input is closed."""
    argv = [sys.executable, "-m", "bench._gateway_arms", role, *options]
    with subprocess.Popen(
        argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port, _, token = process.stdout.readline().strip().partition(" ")
        if not port:
            raise RuntimeError(f"the process of role {role} did not start; its words are above")
        try:
            yield _Subject(process.pid, _target(int(port), token), runner, [], [])
        finally:
            process.terminate()


def _target(port: int, token: str) -> Target:
    request = (
        "GET /api/v1/products/p-0001?fields=all HTTP/1.1\r\nHost: localhost\r\n"
        "User-Agent: bench/1\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    return Target(port, request.encode(), BODY)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, user and system."""
    return sum(sum(member.cpu_times()[:2]) for member in family(pid))
