"""The route file of a running gateway: what is put in force, and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from month1_caching_gateway.gateway.config_file import BadFile
from month1_caching_gateway.gateway.route_file import Document, RouteFile
from scalelab.errors import InvalidInput
from scalelab.telemetry import TelemetrySettings, build_telemetry

DEADLINE_S = 20.0


def text(path: str) -> str:
    return (
        "upstreams: {app: {endpoints: [{host: 127.0.0.1, port: 1}]}}\n"
        f"routes: [{{prefix: {path}, upstream: app, auth: none}}]\n"
    )


class Applied:
    """Where documents are put in force; refuses what it is told to."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.refuses = ""

    async def __call__(self, document: Document) -> None:
        path = document.rules.routes[0].pattern
        if path == self.refuses:
            raise InvalidInput("not here")
        self.paths.append(path)


def opened(path: Path) -> tuple[RouteFile, CollectorRegistry]:
    telemetry = build_telemetry(TelemetrySettings("gateway", log_level="error"))
    registry = CollectorRegistry()
    return RouteFile(path, registry, telemetry.log), registry


async def test_a_wrong_file_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    """F1, also for a document that is right by itself and cannot be applied."""
    path, applied = tmp_path / "routes.yaml", Applied()
    path.write_text(text("/a"))
    file, registry = opened(path)
    path.write_text(text("a"))
    with pytest.raises(BadFile, match=r"routes\.yaml:2"):
        await file.reload(applied)
    applied.refuses = "/no"
    path.write_text(text("/no"))
    with pytest.raises(InvalidInput):
        await file.reload(applied)
    assert applied.paths == []
    assert file.in_force.rules.routes[0].pattern == "/a"
    refused = registry.get_sample_value("gateway_config_reloads_total", {"outcome": "refused"})
    assert (refused, registry.get_sample_value("gateway_config_file_right")) == (2.0, 0.0)
    path.write_text(text("/b"))
    await file.reload(applied)
    assert file.in_force.rules.routes[0].pattern == "/b"
    assert (applied.paths, registry.get_sample_value("gateway_config_file_right")) == (["/b"], 1.0)


async def test_watching_survives_a_missing_file_and_applies_each_change_once(
    tmp_path: Path,
) -> None:
    """A file that is away for a moment (or for long) is a refusal like any other."""
    path, applied = tmp_path / "routes.yaml", Applied()
    path.write_text(text("/a"))
    file, registry = opened(path)
    watching = asyncio.create_task(file.watch(applied, poll_s=0.005))

    def refused() -> float:
        labels = {"outcome": "refused"}
        return registry.get_sample_value("gateway_config_reloads_total", labels) or 0.0

    path.unlink()
    async with asyncio.timeout(DEADLINE_S):
        while not refused():  # noqa: ASYNC110 - it happens in another task
            await asyncio.sleep(0.005)
    for name in ("/b", "/c"):
        path.with_suffix(".new").write_text(text(name))
        path.with_suffix(".new").replace(path)
        async with asyncio.timeout(DEADLINE_S):
            while name not in applied.paths:  # noqa: ASYNC110 - it happens in another task
                await asyncio.sleep(0.005)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert applied.paths == ["/b", "/c"]
