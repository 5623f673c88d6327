"""The private daemon: apart from the machine, and gone with its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelab.lab.containers import Daemon, leftovers, why_not
from scalelab.lab.servers import ProviderOptions, Providers, ServerFailed

PROJECT = Path(__file__).resolve().parents[4]
PATIENCE_S = 90.0

pytestmark = [pytest.mark.bed, pytest.mark.timeout(600)]

OWNER = """
import json, os, sys, time
from pathlib import Path
from scalelab.lab.containers import Daemon
from scalelab.lab.servers import ProviderOptions, Providers

daemon = Daemon(Path(sys.argv[1]), Providers(ProviderOptions.from_environment(os.environ)))
daemon.start()
daemon.docker("network", "create", "left-behind")
print(json.dumps({"pool": str(daemon.pool)}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with data of its own, not started."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"not run: {reason}")
    made = Daemon(tmp_path / "bed", Providers(ProviderOptions.from_environment(os.environ)))
    yield made
    made.stop()


def mounts_below(folder: Path) -> list[str]:
    """Mounts of this machine at or below a folder."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if str(folder) in line.split()[1]]


def test_it_ends_without_a_trace(daemon: Daemon) -> None:
    """No process, bridge, mount, control group or socket; what it stored stays."""
    daemon.start()
    daemon.docker("network", "create", "one")
    assert daemon.pool is not None
    assert len(leftovers.bridges_in(daemon.pool)) == 1
    assert mounts_below(daemon.folder) == []
    daemon.stop()
    assert leftovers.processes_of(daemon.run) == []
    assert leftovers.bridges_in(daemon.pool) == []
    assert leftovers.control_groups(daemon.name) == []
    assert not daemon.run.exists()
    assert (daemon.folder / "docker").is_dir()


def test_two_owners_cannot_share_one_bed(daemon: Daemon) -> None:
    """The second is told so, and the first goes on."""
    daemon.start()
    second = Daemon(daemon.folder, Providers(ProviderOptions.from_environment(os.environ)))
    with pytest.raises(ServerFailed, match="Another process uses the container bed"):
        second.start()
    second.stop()
    assert daemon.docker("info", "--format", "{{.DockerRootDir}}").strip() == str(
        daemon.folder / "docker"
    )


def test_a_killed_owner_leaves_no_process_and_the_next_start_sweeps_the_rest(
    daemon: Daemon,
) -> None:
    """kill -9: the kernel ends the daemon; the bridge, which is the host's, waits for the sweep."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(daemon.folder)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    with owner.stdout:
        told = json.loads(owner.stdout.readline())
        assert leftovers.processes_of(daemon.run) != []
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    give_up_s = time.monotonic() + PATIENCE_S
    while leftovers.processes_of(daemon.run):
        assert time.monotonic() < give_up_s, "the daemon outlives its owner"
        time.sleep(0.1)
    before = {line.split()[0] for line in Path("/proc/net/route").read_text().splitlines()}
    assert any(name.startswith("br-") for name in before), told
    daemon.start()
    assert str(daemon.pool) == told["pool"], "the old bridge still holds its addresses"
    networks = {one["Name"] for one in daemon.listed("network", "ls")}
    assert "left-behind" in networks
    daemon.docker("network", "rm", "left-behind")
