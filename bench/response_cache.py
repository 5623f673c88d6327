"""A hit of the gateway's response cache, beside nginx's `proxy_cache` and its own pass-through.

The same upstream answer of 280 bytes is stored by both and asked for by 32 keep-alive connections.
The number is CPU of the process under test per answered request, user and system. nginx keeps the
answer in a file and its key in shared memory; the gateway keeps both in the process, per worker.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from month1_caching_gateway.experiments.overhead_load import Target, closed_loop
from month1_caching_gateway.experiments.overhead_process import BODY
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import compare, is_void
from scalelab.lab.course.rounds import paired
from scalelab.lab.servers import Nginx, ServerMissing
from scalelab.lab.servers.processes import family

MONTH = "month1"
_ROOT = Path(__file__).resolve().parents[1]
_CONNECTIONS = 32
_UNIT = "CPU µs/request"
_REQUEST = (
    b"GET /api/v1/products/p-0001?fields=all HTTP/1.1\r\nHost: localhost\r\n"
    b"User-Agent: bench/1\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n\r\n"
)

_NGINX = """
  proxy_cache_path $DIR/kept keys_zone=kept:8m max_size=64m use_temp_path=off;
  upstream app { server 127.0.0.1:UPSTREAM; keepalive 256; }
  server {
    listen 127.0.0.1:$PORT;
    keepalive_requests 100000000;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache kept; proxy_cache_valid 200 1h; add_header X-Cache $upstream_cache_status;
    }
  }
"""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A process under test. costs_us: of every round so far."""

    pid: int
    target: Target
    runner: asyncio.Runner
    costs_us: list[float]

    def measure(self, seconds: float) -> float:
        """CPU µs per request of one round in a closed loop."""
        before_s = _cpu_s(self.pid)
        load = closed_loop(self.target, connections=_CONNECTIONS, seconds=seconds)
        answers = self.runner.run(load)
        self.costs_us.append((_cpu_s(self.pid) - before_s) / answers * 1e6)
        return self.costs_us[-1]


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about two minutes."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        upstream = stack.enter_context(_arm(runner, "upstream"))
        to = ("--upstream", str(upstream.target.port))
        ours = stack.enter_context(_arm(runner, "gateway-cache", *to))
        plain = stack.enter_context(_arm(runner, "gateway", *to))
        options.note("in turns: cache hits, twice")
        control = compare(
            paired(ours.measure, ours.measure, rounds=options.rounds, round_s=options.round_s),
            options.generator,
        )
        if is_void(control):
            options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
        figures: list[AnyFigure] = [
            _ratio(options, ours, "own pass-through", plain, 1.0),
            *_beside_nginx(options, runner, ours, upstream.target.port),
        ]
        return [*figures, _shown("hit", median(ours.costs_us[1:]))]


def _ratio(options: Options, ours: _Subject, name: str, peer: _Subject, gate: float) -> Figure:
    options.note(f"in turns: {name}, cache hits")
    rounds = paired(peer.measure, ours.measure, rounds=options.rounds, round_s=options.round_s)
    ratio = compare(rounds, options.generator)
    return Figure("response_cache", "hit", name, f"{_UNIT}, peer / ours", ratio, "at_least", gate)


def _beside_nginx(
    options: Options, runner: asyncio.Runner, ours: _Subject, upstream_port: int
) -> list[AnyFigure]:
    nginx = Nginx(_NGINX.replace("UPSTREAM", str(upstream_port)), name="nginx-cache")
    try:
        options.runtime.start(nginx)
    except ServerMissing as missing:
        options.note(f"without nginx: {missing}")
        return []
    (pid,) = (one.pid for one in options.runtime.status() if one.name == nginx.name)
    ruler = _Subject(pid or 0, Target(nginx.port, _REQUEST, BODY), runner, [])
    figure = _ratio(options, ours, "nginx proxy_cache", ruler, 0.5)
    return [figure, _shown("hit, nginx", median(ruler.costs_us[1:]))]


def _shown(subject: str, value: float) -> LimitFigure:
    return LimitFigure("response_cache", subject, _UNIT, round(value, 2), "at_most", None)


@contextmanager
def _arm(runner: asyncio.Runner, role: str, *options: str) -> Generator[_Subject]:
    """A process of that role; it ends when its standard input is closed."""
    argv = [sys.executable, "-m", "bench._gateway_arms", role, *options]
    with subprocess.Popen(
        argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port, _, _ = process.stdout.readline().strip().partition(" ")
        if not port:
            raise RuntimeError(f"the process of role {role} did not start; its words are above")
        try:
            yield _Subject(process.pid, Target(int(port), _REQUEST, BODY), runner, [])
        finally:
            process.terminate()


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, user and system."""
    return sum(sum(member.cpu_times()[:2]) for member in family(pid))
