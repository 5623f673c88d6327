"""Children end with their parent, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[3]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the death signal is Linux's")
def test_children_die_when_the_parent_is_killed(
    server_root: Path, until: Callable[..., None]
) -> None:
    """SIGKILL to the owner of a stack leaves no process of it, workers and backends included."""
    parent = subprocess.Popen(
        [
            sys.executable,
            str(HERE / "parent_process.py"),
            str(server_root / uuid.uuid4().hex[:8]),
            str(HERE / "echo_service.py"),
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids: list[int] = json.loads(parent.stdout.readline())
    assert len(pids) > 12  # five servers and a service, with backends and workers
    assert all(psutil.pid_exists(pid) for pid in pids)
    parent.kill()
    parent.wait()
    try:
        until(lambda: not [pid for pid in pids if _lives(pid)], what="all children are gone")
    finally:
        for pid in filter(_lives, pids):
            os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
