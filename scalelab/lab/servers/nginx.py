"""nginx in a folder of its own: no system configuration, no daemon, an unprivileged account."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Recipe
from scalelab.lab.servers.service import http_probe

RECIPE = Recipe(
    server="nginx",
    program="nginx",
    minimum=(1, 18),
    version_flag="-v",
    version=r"nginx/(\d+(?:\.\d+)+)",
    places=("/usr/sbin/nginx", "/opt/homebrew/bin/nginx"),
    packages=("nginx",),
    units=("nginx.service",),
)

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx(Server):
    """nginx around a configuration. config: what stands inside `http { }`.

    In config, `$PORT` becomes the server's port and `$DIR` its folder. files: more files beside the
    configuration, name → text. ready_path: any answer to a GET on it counts as ready.
    """

    default_port = 8080
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM  # the master takes its workers along
    stop_steps: StopSteps = ((signal.SIGQUIT, 3.0), (signal.SIGTERM, 3.0))

    def __init__(
        self,
        config: str,
        name: str = "nginx",
        port: int | None = None,
        *,
        files: Mapping[str, str] | None = None,
        ready_path: str = "/",
    ) -> None:
        super().__init__(name, port)
        self.config = config
        self._files = dict(files or {})
        self._ready_path = ready_path

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        for name, text in self._files.items():
            self.place.write(self.folder / name, text)
        config = self.folder / "nginx.conf"
        self.place.write(config, self._text())
        command = [str(program.path), "-e", "stderr", "-p", f"{self.folder}/", "-c", str(config)]
        self.run_as_server([*command, "-t", "-q"], what=f"{self.name}'s check", timeout_s=10)
        return self.launch(command)

    def probe(self) -> None:
        http_probe(self.port, self._ready_path, any_status=True)

    def _text(self) -> str:
        body = self.config.replace("$PORT", str(self.port)).replace("$DIR", str(self.folder))
        paths = "".join(f"  {name}_temp_path tmp-{name};\n" for name in _TEMPORARY)
        return (
            "daemon off;\nworker_processes 2;\npid nginx.pid;\nerror_log stderr warn;\n"
            "events { worker_connections 2048; }\n"
            f"http {{\n{paths}  access_log off;\n{body}\n}}\n"
        )
