"""The stand-in for `python:3.11-slim`: a minimal Debian 12, whose Python is a 3.11.

No image can be pulled in a bed, so the base is bootstrapped from Debian packages, in a mount and
PID namespace of its own: a killed run leaves no mount and no process behind.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from scalelab.lab.containers.daemon import Daemon
from scalelab.lab.containers.host_settings import HostSettings
from scalelab.lab.servers.base import environment
from scalelab.lab.servers.errors import ServerFailed, evidence
from scalelab.lab.servers.long_commands import run_logged
from scalelab.lab.servers.processes import kill_tree
from scalelab.lab.servers.providers import Providers, Recipe

SUITE = "bookworm"
_APART = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
)
_PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
_BOOTSTRAP_S, _IMPORT_S = 900.0, 300.0
_CA_FILE = "etc/ssl/certs/ca-certificates.crt"

DEBOOTSTRAP = Recipe(
    server="debootstrap",
    program="debootstrap",
    minimum=(1, 0),
    version=r"debootstrap (\d+(?:\.\d+)+)",
    places=("/usr/sbin/debootstrap",),
    packages=("debootstrap",),
)


def bootstrap(
    folder: Path, providers: Providers, settings: HostSettings, log: Path, reference: str
) -> Callable[[Daemon], None]:
    """Make the root file system below `folder` (removed and made anew); return how to import it.

    Split in two because the packages can be unpacked before the daemon runs.
    """
    program = providers.obtain(DEBOOTSTRAP)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = ["--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    arguments = [*options, SUITE, str(folder), settings.mirror]
    run_logged(
        [*_APART, str(program.path), *arguments],
        env=environment(settings.proxies),
        cwd=folder.parent,
        log=log,
        timeout_s=_BOOTSTRAP_S,
        what="Bootstrapping the base image",
    )
    _settle(folder, settings)
    return lambda daemon: _import(folder, daemon, log, reference)


def _settle(folder: Path, settings: HostSettings) -> None:
    """What an official image has that a bootstrapped one has not, and how to reach the network."""
    for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/log/*.log"):
        for path in folder.glob(pattern):
            path.unlink()
    for marker in folder.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (folder / "etc/pip.conf").write_text(settings.pip_conf())
    (folder / "etc/apt/apt.conf.d/90-network").write_text("\n".join((*settings.apt, "")))
    if settings.ca_bundle is not None:
        shutil.copyfile(settings.ca_bundle, folder / _CA_FILE)


def _import(folder: Path, daemon: Daemon, log: Path, reference: str) -> None:
    bundle = f"/{_CA_FILE}"
    # Only the layers below an import can carry variables, so that a Dockerfile needs none.
    changes = [f"ENV PIP_CERT={bundle} SSL_CERT_FILE={bundle}", 'CMD ["python3"]']
    options = [word for change in changes for word in ("--change", change)]
    with log.open("ab") as words:
        packing = subprocess.Popen(
            ["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE, stderr=words
        )
        try:
            run_logged(
                ["docker", "import", *options, "-", reference],
                env=daemon.environment,
                cwd=folder.parent,
                log=log,
                timeout_s=_IMPORT_S,
                what="Importing the base image",
                stdin=packing.stdout,
            )
        finally:
            if packing.stdout is not None:
                packing.stdout.close()
            if packing.poll() is None:
                kill_tree(packing)
    if packing.returncode != 0:
        raise ServerFailed(f"Packing the base image failed. {evidence(log)}")
    shutil.rmtree(folder)
