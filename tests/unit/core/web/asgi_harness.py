"""Calls an ASGI app in this process, message by message, and keeps what it says."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI

from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import Limits, create_app


@dataclass
class Answer:
    """What came back: status, headers by lower-case name, body, and each body message alone.

    received: how many messages of the request the app took.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    chunks: list[bytes] = field(default_factory=list[bytes])
    complete: bool = False
    received: int = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Bench:
    """An app and the log lines it wrote."""

    app: FastAPI
    telemetry: Telemetry
    stream: io.StringIO

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def metric(self, name: str, **labels: str) -> float:
        value = self.telemetry.registry.get_sample_value(name, {"service": "test", **labels})
        return 0.0 if value is None else value


def bench(
    *routers: APIRouter, limits: Limits | None = None, level: str = "info", **options: Any
) -> Bench:
    """An app named "test" with these routers; its log goes to memory."""
    stream = io.StringIO()
    telemetry = build_telemetry(TelemetrySettings("test", log_level=level), stream=stream)
    app = create_app(telemetry=telemetry, routers=routers, limits=limits or Limits(), **options)
    return Bench(app, telemetry, stream)


async def call(
    app: FastAPI,
    method: str,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: Sequence[bytes] = (),
    answer: Answer | None = None,
    hang: bool = False,
) -> Answer:
    """One request. body: its chunks, without a length. hang: the body never ends.

    After the body the caller stays connected until the app has answered.
    """
    got = answer or Answer()
    pending = list(body) or [b""]

    async def receive() -> dict[str, Any]:
        if pending:
            got.received += 1
            chunk = pending.pop(0)
            more = bool(pending) or hang
            return {"type": "http.request", "body": chunk, "more_body": more}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers.update((k.decode(), v.decode("latin-1")) for k, v in message["headers"])
        else:
            got.chunks.append(message.get("body", b""))
            got.complete = not message.get("more_body", False)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    path_text, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path_text,
        "raw_path": path_text.encode("utf-8"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return got
