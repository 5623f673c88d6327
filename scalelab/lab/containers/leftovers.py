"""What a daemon leaves when it or its owner is killed, and how it is swept away.

Processes and mounts die with the daemon's namespaces. What the kernel keeps is network bridges,
which are the host's, empty control groups, and the folder of sockets.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import cast

import psutil

from scalelab.lab.containers.reservation import reserve
from scalelab.lab.servers.processes import await_end

_CGROUPS = Path("/sys/fs/cgroup")
_END_S = 30.0


def sweep(run: Path, name: str) -> None:
    """Remove everything of a bed that is not running any more. run: its folder of sockets.

    A daemon whose owner was killed may still be ending; it is waited for, then killed.
    """
    config = run / "daemon.json"
    for member in await_end(processes_of(run), within_s=_END_S):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    pool = _pool_of(config)
    held = reserve(pool) if pool is not None else None
    if held is not None:  # else the pool is another bed's by now, and so are its bridges
        for bridge in bridges_in(held.pool):
            subprocess.run(
                ["ip", "link", "delete", bridge], capture_output=True, timeout=10, check=False
            )
        held.release()
    for group in control_groups(name):
        with contextlib.suppress(OSError):
            group.rmdir()
    shutil.rmtree(run, ignore_errors=True)


def processes_of(run: Path) -> list[psutil.Process]:
    """Living processes of the bed: those that name its folder, and all their descendants."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        words = cast("list[str] | None", process.info["cmdline"])
        if any(str(run) in word for word in words or []):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return list(found.values())


def bridges_in(pool: IPv4Network) -> list[str]:
    """Names of the host's interfaces with an address in the pool."""
    return sorted(
        interface
        for interface, addresses in psutil.net_if_addrs().items()
        if any(_is_in(address.address, pool) for address in addresses)
    )


def control_groups(name: str) -> list[Path]:
    """Control groups of the bed, children before their parents, in either version's tree."""
    tops = [*_CGROUPS.glob(name), *_CGROUPS.glob(f"*/{name}")]
    found = {top.resolve() for top in tops}
    for top in list(found):
        found |= {path for path in top.rglob("*") if path.is_dir()}
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _is_in(address: str, pool: IPv4Network) -> bool:
    try:
        return IPv4Address(address) in pool
    except ValueError:  # a hardware or IPv6 address
        return False


def _pool_of(config: Path) -> IPv4Network | None:
    try:
        settings = cast("dict[str, list[dict[str, str]]]", json.loads(config.read_text()))
        return IPv4Network(settings["default-address-pools"][0]["base"])
    except (OSError, ValueError, KeyError, IndexError):
        return None
