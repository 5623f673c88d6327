"""Prometheus: scrapes the stack's services and keeps a few hours of samples."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.processes import Launch
from scalelab.lab.servers.providers import Recipe
from scalelab.lab.servers.service import http_probe

RECIPE = Recipe(
    server="prometheus",
    program="prometheus",
    minimum=(2, 30),
    version=r"version (\d+(?:\.\d+)+)",
    places=("/usr/bin/prometheus", "/opt/homebrew/bin/prometheus"),
    packages=("prometheus",),
    units=(
        "prometheus.service",
        "prometheus-node-exporter.service",
    ),
)


class Prometheus(Server):
    """Prometheus over fixed targets. targets: job name → addresses ("127.0.0.1:8000").

    rules: rule files, copied in. alertmanagers: addresses of Alertmanagers.
    """

    default_port = 9090
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]],
        name: str = "prometheus",
        port: int | None = None,
        *,
        scrape_interval_s: float = 2.0,
        rules: Sequence[Path] = (),
        alertmanagers: Sequence[str] = (),
    ) -> None:
        super().__init__(name, port)
        self.targets = {job: list(addresses) for job, addresses in targets.items()}
        self._interval_ms = int(scrape_interval_s * 1000)
        self._rules = list(rules)
        self._alertmanagers = list(alertmanagers)

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        for rule in self._rules:
            self.place.write(self.folder / rule.name, rule.read_text(encoding="utf-8"))
        config = self.folder / "prometheus.json"
        # JSON is YAML, and quoting is then nobody's worry.
        self.place.write(config, json.dumps(self._config(), indent=1))
        return self.launch(
            [
                str(program.path),
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                "--storage.tsdb.retention.time=6h",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            {"GOMAXPROCS": "2", "GOMEMLIMIT": "192MiB"},
        )

    def probe(self) -> None:
        http_probe(self.port, "/-/ready")

    def _config(self) -> dict[str, Any]:
        interval = f"{self._interval_ms}ms"
        config: dict[str, Any] = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [rule.name for rule in self._rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": addresses}]}
                for job, addresses in self.targets.items()
            ],
        }
        if self._alertmanagers:
            targets = [{"static_configs": [{"targets": self._alertmanagers}]}]
            config["alerting"] = {"alertmanagers": targets}
        return config
