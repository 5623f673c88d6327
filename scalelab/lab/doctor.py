"""What this machine can carry: facts, judged against what the main path and the beds need.

`examine` looks at the machine and installs nothing; `main_path_works` judges. A red line names the
one command that fixes it, and what stays closed until then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from scalelab.lab.course.machine import usable_cores, usable_memory_bytes
from scalelab.lab.servers import Capability, ProviderOptions, Providers, capabilities
from scalelab.lab.servers.go import go_is_new_enough

Verdict = Literal["ok", "low", "missing"]

_GIB = 2**30
_TOOL_LIMIT_S = 10.0
# The servers without which the main path (demo, tests, stacks) does not run.
_REQUIRED_SERVERS = frozenset({"postgresql", "postgres", "redis", "java", "kafka"})
_CLOSES = {
    "cassandra": "the ring: tests and experiments of consistency, and the order model on it",
    "ecj": "our own Java classes: the experiment memory-visibility and its tests",
    "nginx": "the edge; the gateway then answers clients itself",
    "memcached": "the second back end of the cache, and its comparison with Redis",
    "prometheus": "live metrics and alerts of a stack",
    "etcd": "failover by Patroni: its tests and experiments",
    "patroni": "failover by Patroni: its tests and experiments",
    "pgbackrest": "backups by pgBackRest; our own tool serves without it",
    "rabbitmq": "the second broker: its adapter, background jobs over it, and their experiments",
    "versitygw": "object storage (rows D9, D11, D15, D19): its tests and experiments",
    "envoy": "the service mesh (row C10): its tests and its experiment",
    "pgbouncer": "reads through a pooler, and what breaks behind one",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at. verdict: `low` works but slowly or narrowly; `missing` does not.

    found: what is there. required: the main path needs it. closes: what does not work without it.
    fix: one command or one sentence, where something helps.
    """

    name: str
    verdict: Verdict
    found: str
    required: bool
    closes: str = ""
    fix: str = ""


def examine(root: Path) -> list[Line]:
    """Look at everything, the required lines first. Cost: a few short processes, about a second."""
    providers = Providers(ProviderOptions.from_environment(os.environ))
    lines = [_python(), _cores(), _memory(), _disk(root)]
    lines += [server_line(capability) for capability in capabilities(providers)]
    return [*lines, _docker(), _container_bed(root, providers), _go(), _chromium(), _netem()]


def main_path_works(lines: Sequence[Line]) -> bool:
    """True if nothing required is missing."""
    return not any(line.required and line.verdict == "missing" for line in lines)


def server_line(capability: Capability) -> Line:
    """A server's line from what its provider says."""
    required = capability.server.lower() in _REQUIRED_SERVERS
    closes = _CLOSES.get(capability.server.lower(), "stacks and tests that use it")
    if capability.provider == "none":
        return Line(
            capability.server, "missing", "no way to get it", required, closes, capability.fix or ""
        )
    if capability.version is None:
        found = f"will be installed when first needed ({capability.provider})"
    else:
        found = f"{capability.version} ({capability.provider})"
    return Line(capability.server, "ok", found, required, closes)


def _python() -> Line:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Line("Python", "ok" if good else "missing", version, required=True, closes="everything")


def _cores() -> Line:
    cores = usable_cores()
    return Line(
        "cores",
        "ok" if cores >= 2 else "low",
        str(cores),
        required=True,
        closes="" if cores >= 3 else "latency as a gate: with fewer than 3 it is only printed",
    )


def _memory() -> Line:
    free = usable_memory_bytes()
    verdict: Verdict = "ok" if free >= 4 * _GIB else "low" if free >= 1.5 * _GIB else "missing"
    fix = "" if verdict == "ok" else "close other programs; the shop takes about 2 GiB"
    return Line("memory", verdict, f"{free / _GIB:.1f} GiB free", True, "the whole shop", fix)


def _disk(root: Path) -> Line:
    free = psutil.disk_usage(str(root)).free
    verdict: Verdict = "ok" if free >= 5 * _GIB else "low" if free >= 2 * _GIB else "missing"
    fix = "" if verdict == "ok" else "./lab clean, or make room"
    return Line("disk", verdict, f"{free / _GIB:.1f} GiB free", True, "servers and their data", fix)


def _docker() -> Line:
    closes = "the container files (docker compose up) and the beds that build images"
    answer = _ask(["docker", "version", "--format", "{{.Server.Version}}"])
    if answer:
        return Line("docker", "ok", f"{answer}, daemon answers", False)
    if shutil.which("docker"):
        fix = "start its daemon, or join the group that may use it"
        return Line("docker", "missing", "program there, no daemon", False, closes, fix)
    return Line("docker", "missing", "not found", False, closes, "install Docker or docker.io")


def _container_bed(root: Path, providers: Providers) -> Line:
    """Whether `./lab test --beds` can have its own daemon; looks, starts nothing."""
    from scalelab.lab.containers import missing_parts

    closes = "./lab test --beds, which runs the container files for real"
    missing = missing_parts(providers)
    if missing:
        found = "; ".join(part for part, _ in missing)
        return Line("container bed", "missing", found, False, closes, missing[0][1])
    built = (root / ".lab" / "containers" / "docker").is_dir()
    found = "built" if built else "can be built: minutes of CPU and 3 GiB of disk, once"
    return Line("container bed", "ok", found, False, closes)


def _go() -> Line:
    closes = "servers built from Go modules: versitygw (object storage), Docker Compose of the beds"
    answer = _ask(["go", "version"], {"GOTOOLCHAIN": "local"})
    if answer and go_is_new_enough(answer):
        return Line("go", "ok", answer.removeprefix("go version ").split()[0], False)
    found = answer or "not found"
    return Line("go", "missing", found, False, closes, "install Go 1.24 or newer")


def _chromium() -> Line:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return Line("chromium", "ok", path, False)
    fix = "apt-get install --no-install-recommends chromium"
    return Line("chromium", "missing", "not found", False, "browser tests of the web pages", fix)


def _netem() -> Line:
    """Delay in the kernel, tried in a network namespace of its own so that nothing is disturbed."""
    closes = "delay and loss injected by the kernel; a proxy of ours serves instead"
    argv = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_TOOL_LIMIT_S, check=False)
        works = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if works:
        return Line("netem", "ok", "works", False)
    return Line("netem", "missing", "not in this kernel, or not for this user", False, closes)


def _ask(argv: list[str], extra: dict[str, str] | None = None) -> str:
    """First line a tool prints; "" if it is absent, fails or hangs."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=_TOOL_LIMIT_S,
            check=False,
            env=os.environ | (extra or {}),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n", 1)[0] if done.returncode == 0 else ""
