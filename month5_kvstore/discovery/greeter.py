"""A small service that registers itself: what a process owes a registry, from start to end.

The order of a start: listen, then register. The order of a stop: withdraw, wait until callers have
heard of it, stop listening, answer what is in flight. Its greeting is a live setting.
"""

from __future__ import annotations

import asyncio
import os
from random import Random

from fastapi import APIRouter, FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict

from month5_kvstore.discovery.instances import Instance
from month5_kvstore.discovery.live_setting import LiveSetting
from month5_kvstore.discovery.opening import open_registry
from month5_kvstore.discovery.presence import PresenceEvent, present
from scalelab.clock import SystemClock
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web.app import create_app
from scalelab.web.serving import install_stop_signals, serve

_GREETING_MAX = 100


class GreeterSettings(BaseSettings):
    """Environment variables GREETER_….

    registry: as `open_registry` takes it. id: of this instance. ttl_s: it is sent no calls so long
    after it was last heard. notice_s: between its withdrawal and the closed listener; callers that
    watch have heard by then. drain: False ends at once and withdraws nothing, to see why not to.
    """

    model_config = SettingsConfigDict(env_prefix="GREETER_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    registry: str
    service: str = "greeter"
    id: str
    version: str = "1"
    ttl_s: float = 5.0
    notice_s: float = 0.5
    drain: bool = True
    log_level: str = "info"


def read_greeting(value: bytes) -> str:
    """Raises ValueError for what nobody wants to be greeted with."""
    text = value.decode()
    if not 1 <= len(text) <= _GREETING_MAX or not text.isprintable():
        raise ValueError(f"a greeting has 1 to {_GREETING_MAX} printable characters")
    return text


def create(settings: GreeterSettings, telemetry: Telemetry, greeting: LiveSetting[str]) -> FastAPI:
    """The app: it greets, and says who it is."""
    router = APIRouter()

    @router.get("/hello")
    async def hello() -> dict[str, str]:
        """A greeting, the instance it comes from and its version."""
        said = {"greeting": greeting.value, "instance": settings.id}
        return {**said, "version": settings.version}

    return create_app(telemetry=telemetry, routers=[router], title="greeter")


async def run(settings: GreeterSettings) -> None:
    """Serve and be found until SIGTERM."""
    clock, random = SystemClock(), Random(f"{settings.id} {os.getpid()}")
    telemetry = build_telemetry(TelemetrySettings("greeter", log_level=settings.log_level))
    stop, close, listening = asyncio.Event(), asyncio.Event(), asyncio.Event()
    install_stop_signals(stop)
    me = Instance(settings.service, settings.id, settings.host, settings.port, settings.version)

    def told(event: PresenceEvent) -> None:
        telemetry.log.info("presence", kind=event.kind, instance=event.instance.id, why=event.why)

    async with (
        open_registry(settings.registry, clock=clock, random=random) as registry,
        LiveSetting(
            registry, "greeting", default="hello", read=read_greeting, random=random
        ) as greeting,
        asyncio.TaskGroup() as group,
    ):
        app = create(settings, telemetry, greeting)
        serving = serve(
            app,
            host=settings.host,
            port=settings.port,
            stop=close,
            on_listening=lambda _host, _port: listening.set(),
        )
        group.create_task(serving)
        await listening.wait()
        async with present(registry, me, ttl_s=settings.ttl_s, on_event=told):
            await stop.wait()
            if not settings.drain:
                os._exit(0)
        await asyncio.sleep(settings.notice_s)
        close.set()
