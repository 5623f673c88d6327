"""What a figure was measured on: without it a number means nothing to the next reader."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil


def usable_cores() -> int:
    """Cores this process may run on: affinity counts, and so does a container's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


def usable_memory_bytes() -> int:
    """Memory that new processes can have now; a container's limit counts."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        return available if limit == "max" else min(available, int(limit) - int(used))
    except (OSError, ValueError):
        return available


def revision(root: Path) -> str:
    """The Git revision of the folder, with `-dirty` if it differs; `unknown` without Git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def describe(root: Path) -> dict[str, Any]:
    """The `machine` object of a bench's JSON: processor, cores, load, steal, versions, revision."""
    times = psutil.cpu_times()
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_mib": int(psutil.virtual_memory().total) // 2**20,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "steal_s": getattr(times, "steal", None),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "revision": revision(root),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
