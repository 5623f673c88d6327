"""Stock desks behind the REST door as a process of its own, whose bad days are arranged.

    python -m month3_messaging.experiments.stock_process SETTINGS     a JSON object, see Settings

The desks and the door are those of rpc/, unchanged; what disturbs them stands in front of the door.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter

from month3_messaging.rpc import StockDesk, rest_router
from scalelab.clock import SystemClock
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app
from scalelab.web.process import run_loop
from scalelab.web.serving import install_stop_signals, serve

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ASKED = "ask-"
"""Products with such a name say which question this is; only these questions are ever held."""
FAILS = "fail-"
"""`fail-PLACE-TIMES-ANY`: asked for it, the process of that place (`all`: every one) answers 503 so
many times, and never reaches a desk; then it answers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """free: pieces by desk and product; a desk stands below `/NAME`, the one named "" at the root.

    place, held_share, seed: of the questions, see `is_held`.
    """

    port: int
    free: dict[str, dict[str, int]]
    place: str = ""
    held_share: float = 0.0
    seed: int = 0

    def argv(self) -> tuple[str, ...]:
        """The command of such a process."""
        module = "month3_messaging.experiments.stock_process"
        return ("python", "-m", module, json.dumps(asdict(self)))


def is_held(settings: Settings, desk: str, question: str) -> bool:
    """Whether this desk keeps this question until the caller hangs up: by chance, and repeatable.

    Chances of different desks, places and questions are independent.
    """
    said = f"{settings.seed}/{settings.place}/{desk}/{question}".encode()
    number = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
    return number < settings.held_share * 2**64


class Disturbed:
    """In front of the app: holds and failures as arranged. Health checks are left alone."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._failed: Counter[str] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or "/v1/" not in scope["path"]:
            await self._app(scope, receive, send)
            return
        asked = parse_qs(scope["query_string"].decode()).get("ids", [""])[0].split(",")
        desk = scope["path"].split("/")[1]
        if any(self._fails(one) for one in asked if one.startswith(FAILS)):
            await _fail(send)
        elif any(is_held(self._settings, desk, one) for one in asked if one.startswith(ASKED)):
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await self._app(scope, receive, send)

    def _fails(self, question: str) -> bool:
        _, place, times, _ = question.split("-", 3)
        if place not in ("all", self._settings.place) or self._failed[question] >= int(times):
            return False
        self._failed[question] += 1
        return True


async def _fail(send: Send) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def run(settings: Settings) -> None:
    """Serve until a stop signal."""
    clock = SystemClock()
    routers: list[APIRouter] = []
    for name, free in settings.free.items():
        router = APIRouter(prefix=f"/{name}" if name else "")
        router.include_router(rest_router(StockDesk(free, clock)))
        routers.append(router)
    telemetry = build_telemetry(TelemetrySettings(service="inventory"), stream=io.StringIO())
    app = create_app(telemetry=telemetry, routers=routers)
    app.add_middleware(Disturbed, settings)  # pyright: ignore[reportArgumentType] - looser types
    stop = asyncio.Event()
    install_stop_signals(stop)
    try:
        await serve(app, host="127.0.0.1", port=settings.port, stop=stop, drain_s=1.0)
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    run_loop(run(Settings(**json.loads(sys.argv[1]))))
