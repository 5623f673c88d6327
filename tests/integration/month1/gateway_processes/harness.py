"""A gateway of several processes, started as an operator starts it, and its two doors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.integration.month1.gateway.harness import Peer

DEADLINE_S = 150.0
"""Starting Python takes seconds, and ten times that on a machine that many share."""


_ENVIRONMENT = {
    "GATEWAY_REQUEST_LOG": "false",
    "GATEWAY_POLL_S": "0.05",
    "GATEWAY_DRAIN_S": "60",
    "GATEWAY_DRAIN_IDLE_S": "5",
}
"""A drain closes what is idle for long, and these clients are, when this process has to wait for a
core: it must not take that for a connection that nobody needs."""


def document(app: Peer, *, path: str = "/", rate: str = "") -> str:
    """A route file with one open route to `app`."""
    return (
        f"upstreams:\n  app: {{endpoints: [{{host: 127.0.0.1, port: {app.port}}}]}}\n"
        f"routes:\n  - {{prefix: {path}, upstream: app, auth: none{rate}}}\n"
    )


@dataclass
class Processes:
    """A running supervisor. port: the data plane's; admin: a client of the control plane."""

    process: asyncio.subprocess.Process
    file: Path
    port: int
    admin: httpx.AsyncClient

    def write(self, text: str) -> None:
        """Replace the route file as a careful operator does: at once."""
        aside = self.file.with_suffix(".new")
        aside.write_text(text)
        aside.replace(self.file)

    async def workers(self) -> list[dict[str, Any]]:
        """What the control plane says of each."""
        return (await self.admin.get("/routes")).json()["workers"]

    async def sample(self, line: str) -> float | None:
        """The value of one series in /metrics, as it is written there."""
        text = (await self.admin.get("/metrics")).text
        for found in text.splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return None


@asynccontextmanager
async def processes(tmp_path: Path, text: str, *, workers: int = 2) -> AsyncIterator[Processes]:
    """Start it with `text` as its routes; killed at the end if it still runs."""
    file = tmp_path / "routes.yaml"
    file.write_text(text)
    arguments = ("--config", str(file), "--port", "0", "--admin-port", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "month1_caching_gateway.gateway",
        *arguments,
        "--workers",
        str(workers),
        env={**os.environ, **_ENVIRONMENT},
        stdout=asyncio.subprocess.PIPE,
    )
    family: list[psutil.Process] = []
    reading: asyncio.Task[None] | None = None
    try:
        serves = await _serves(process)
        reading = asyncio.create_task(_read_on(process))
        family = psutil.Process(process.pid).children(recursive=True)
        async with httpx.AsyncClient(
            base_url=f"http://{serves['admin']}", timeout=DEADLINE_S
        ) as admin:
            yield Processes(process, file, serves["port"], admin)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        if reading is not None:
            await reading


async def _serves(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        async for line in process.stdout:
            record = json.loads(line)
            if record.get("event") == "gateway serves":
                return record
    raise AssertionError("the gateway ended before it served")


async def _read_on(process: asyncio.subprocess.Process) -> None:
    """Its log must not fill the pipe."""
    assert process.stdout is not None
    async for _ in process.stdout:
        pass
