"""A Docker daemon of our own, apart from everything else on the machine.

It has its own data, sockets and address pool, and it runs in namespaces of its own:

* *processes*: the daemon is the first process of its PID namespace, so the kernel ends containerd,
  every shim and every container with it, however it ends;
* *mounts*: what it mounts is invisible outside and gone with its last process. A containerd that
  runs on this machine is hidden from it, so that it starts its own.

The network is the host's, because published ports must be reachable, but nothing in it is changed:
no firewall rule, no forwarding. Containers reach each other over bridges, and the host reaches
them; they reach nothing outside. Images are built in the host's network, which can.

A machine whose firewall drops forwarded packets *and* passes bridged ones through it
(`bridge-nf-call-iptables`) may keep containers from reaching each other; `start` refuses there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import IO, Any

import psutil

from scalelab.lab.containers import leftovers
from scalelab.lab.containers.addresses import NETWORK_PREFIX, free_pools, routes
from scalelab.lab.containers.reservation import Reservation, reserve_one
from scalelab.lab.servers.base import environment
from scalelab.lab.servers.errors import ServerFailed, ServerMissing, evidence
from scalelab.lab.servers.processes import Launch, Spawner, await_end, family
from scalelab.lab.servers.providers import Providers, Recipe

DOCKER = Recipe(
    server="docker",
    program="dockerd",
    minimum=(20, 10),
    version=r"version (\d+(?:\.\d+)+)",
    places=("/usr/sbin/dockerd", "/usr/bin/dockerd"),
    packages=("docker.io", "iproute2"),
    units=("docker.service", "docker.socket", "containerd.service"),
)

_READY_S = 60.0
_STOP_S = 60.0
_COMMAND_S = 120.0
# One argument after `sh`: the configuration. The hidden folder is where dockerd looks for others.
_INSIDE = (
    "if [ -d /run/containerd ]; then mount -t tmpfs none /run/containerd; fi; "
    'exec dockerd --config-file "$0"'
)
_NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child=TERM",
)


class Daemon:
    """One private daemon. folder: images and volumes, kept for the next start; logs beside them.

    Not thread-safe while it starts and stops; `docker` may be called from several threads.
    """

    def __init__(self, folder: Path, providers: Providers) -> None:
        self.folder = folder.absolute()
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        self.name = f"scalelab-bed-{digest}"
        self.run = Path("/run") / self.name  # sockets have short names, or none
        self.log = self.folder / "logs" / "dockerd.log"
        self.pool: IPv4Network | None = None
        self._providers = providers
        self._spawner: Spawner | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._held: IO[str] | None = None
        self._reserved: Reservation | None = None

    @property
    def socket(self) -> str:
        """Where it listens, as DOCKER_HOST wants it."""
        return f"unix://{self.run}/docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a client talks to this daemon and reads nobody's settings."""
        extra = {
            "DOCKER_HOST": self.socket,
            "DOCKER_CONFIG": str(self.run / "client"),
            "HOME": str(self.run),
            "PATH": _search_path(),
        }
        return environment(extra)

    def start(self) -> None:
        """Install what is missing, sweep what a killed run left, start, wait until it answers.

        Raises ServerMissing where it cannot be (no root, no Linux, no package), ServerFailed when
        it does not come up or another process holds this bed.
        """
        _require_root()
        self._providers.obtain(DOCKER)
        _refuse_dropped_bridges()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(exist_ok=True)
        self._hold()
        leftovers.sweep(self.run, self.name)
        self._reserved = reserve_one(free_pools(routes(Path("/proc/net/route").read_text())))
        self.pool = self._reserved.pool
        self._write_configuration()
        self._spawner = Spawner(f"spawner of {self.name}")
        config = str(self.run / "daemon.json")
        self._process = self._spawner.spawn(
            Launch(
                argv=(*_NAMESPACES, "sh", "-c", _INSIDE, config),
                env=environment({"HOME": str(self.run), "PATH": _search_path()}),
                cwd=self.folder,
                log=self.log,
                # The wrapper dies at once, and the kernel then asks the daemon to end by SIGTERM.
                death_signal=signal.SIGKILL,
            )
        )
        self._await_answer()

    def stop(self) -> None:
        """End the daemon and all containers; leave no process, bridge, mount or socket.

        Images and volumes stay in `folder`. Repeatable.
        """
        if self._process is not None:
            members = family(self._process.pid)
            for member in members[1:2]:  # the daemon itself; the wrapper ends with it
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGTERM)
            left = await_end(members, within_s=_STOP_S)
            for member in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            self._process.wait(10.0)
            await_end(left, within_s=10.0)
            self._process = None
        if self._spawner is not None:
            self._spawner.close()
            self._spawner = None
        if self._reserved is not None:
            self._reserved.release()
            self._reserved = None
        if self._held is not None:
            leftovers.sweep(self.run, self.name)
            self._held.close()
            self._held = None

    def remove_data(self) -> None:
        """Forget images, build cache and volumes. Only while stopped."""
        shutil.rmtree(self.folder / "docker", ignore_errors=True)

    def docker(self, *arguments: str, timeout_s: float = _COMMAND_S) -> str:
        """Run a client command and return its output. Raises ServerFailed with its words."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            words = " ".join((done.stderr or done.stdout).split())[-400:]
            raise ServerFailed(f'docker {" ".join(arguments[:2])} failed: "{words}".')
        return done.stdout

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What a client command lists, one JSON document a line."""
        lines = self.docker(*arguments, "--format", "{{json .}}").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def has_image(self, reference: str) -> bool:
        """Whether an image of that name is in this daemon."""
        return bool(self.docker("image", "ls", "--quiet", reference).strip())

    def _hold(self) -> None:
        handle = (self.folder / "bed.lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise ServerFailed(
                f"Another process uses the container bed of {self.folder}. "
                f"Try: wait until its tests have ended."
            ) from None
        self._held = handle

    def _write_configuration(self) -> None:
        (self.run / "client").mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run.chmod(0o700)
        (self.run / "client" / "config.json").write_text("{}\n")
        settings = {
            "data-root": str(self.folder / "docker"),
            "exec-root": str(self.run / "exec"),
            "pidfile": str(self.run / "dockerd.pid"),
            "hosts": [self.socket],
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "userland-proxy": True,
            "default-address-pools": [{"base": str(self.pool), "size": NETWORK_PREFIX}],
            "cgroup-parent": f"/{self.name}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "shutdown-timeout": 5,
            "features": {"buildkit": True},
            "log-driver": "json-file",
            "log-opts": {"max-size": "5m", "max-file": "1"},
            "log-level": "warn",
        }
        (self.run / "daemon.json").write_text(json.dumps(settings, indent=1))

    def _await_answer(self) -> None:
        deadline_s = time.monotonic() + _READY_S
        while True:
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(f"The private Docker daemon ended. {evidence(self.log)}")
            try:
                self.docker("version", "--format", "{{.Server.Version}}", timeout_s=10)
            except (ServerFailed, subprocess.TimeoutExpired) as error:
                if time.monotonic() > deadline_s:
                    raise ServerFailed(
                        f"The private Docker daemon is not ready after {_READY_S:.0f} s: {error} "
                        f"{evidence(self.log)}"
                    ) from error
                time.sleep(0.1)
            else:
                return


def why_not() -> str | None:
    """Why no private daemon can run here, or None where it can (a package may still be missing)."""
    if not Path("/proc/self/ns/pid").exists():
        return "it needs the namespaces of a Linux kernel"
    if os.geteuid() != 0:
        return "a private Docker daemon needs root"
    return None


def _require_root() -> None:
    reason = why_not()
    if reason is not None:
        raise ServerMissing(
            f"There is no container bed here: {reason}. Try: run the same command as root on Linux."
        )


def _refuse_dropped_bridges() -> None:
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists() or switch.read_text().strip() != "1":
        return
    rules = subprocess.run(
        ["iptables", "-S", "FORWARD"],
        env=environment({"PATH": _search_path()}),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    if "-P FORWARD DROP" in rules.stdout:
        raise ServerMissing(
            "There is no container bed here: this machine's firewall drops what passes between "
            "containers (FORWARD is DROP and bridge-nf-call-iptables is 1). "
            "Try: sysctl net.bridge.bridge-nf-call-iptables=0, or use another machine."
        )


def _search_path() -> str:
    """dockerd looks for iptables and its own companions where a user's PATH often does not."""
    return ":".join([os.environ.get("PATH", os.defpath), "/usr/local/sbin:/usr/sbin:/sbin"])
