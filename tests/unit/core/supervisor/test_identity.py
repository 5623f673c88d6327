"""A recycled pid is never taken for the process that had it before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scalelab.lab.supervisor import identity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A child that does nothing until it is ended."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child
    child.kill()
    child.wait()


def test_pid_and_start_time_name_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    """The right start time finds it, another one does not."""
    start = identity.started_at_s(sleeper.pid)
    assert identity.is_alive(sleeper.pid, start)
    assert not identity.is_alive(sleeper.pid, start - 60)


def test_a_stranger_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    """A pid whose start time differs belongs to somebody else now."""
    start = identity.started_at_s(sleeper.pid)
    assert not identity.send_signal(sleeper.pid, start - 60, signal.SIGKILL)
    assert identity.end_all([(sleeper.pid, start - 60)], grace_s=0.0) == []
    assert sleeper.poll() is None


def test_end_all_ends_what_lives(sleeper: subprocess.Popen[bytes]) -> None:
    """Terminated, and reported; a zombie counts as ended."""
    start = identity.started_at_s(sleeper.pid)
    assert identity.end_all([(sleeper.pid, start)], grace_s=10.0) == [sleeper.pid]
    assert sleeper.wait(10) == -signal.SIGTERM
    assert not identity.is_alive(sleeper.pid, start)


def test_no_process_has_no_start_time() -> None:
    """A pid beyond every table is nobody's."""
    assert identity.started_at_s(2**31 - 1) == 0.0
    assert identity.is_alive(os.getpid(), identity.started_at_s(os.getpid()))
