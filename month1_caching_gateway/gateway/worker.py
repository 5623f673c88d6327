"""One worker: a whole data plane, told by its supervisor what to serve and where to listen.

    python -m month1_caching_gateway.gateway.worker CHANNEL LISTENER…

The arguments are numbers of inherited file descriptors: the channel, then every listening socket
of the gateway. A worker listens on its own; when a neighbour is away it is told to take that one's
as well. It ends when it is told to, on SIGTERM, and when its supervisor is gone: after a drain.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence

import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from month1_caching_gateway.gateway.channel import Channel, Message
from month1_caching_gateway.gateway.config_file import rules_of
from month1_caching_gateway.gateway.gateway import Gateway
from month1_caching_gateway.gateway.process import calm_collector, check_tokens, opened
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from scalelab.errors import ScalelabError
from scalelab.telemetry import TelemetrySettings, build_telemetry


class Worker:
    """Does what the channel says until it ends or `stop` is set."""

    def __init__(
        self,
        channel: Channel,
        listeners: Sequence[socket.socket],
        settings: ProcessSettings,
        gateway: Gateway,
        registry: CollectorRegistry,
    ) -> None:
        self._channel = channel
        self._listeners = listeners
        self._settings = settings
        self._gateway = gateway
        self._registry = registry

    async def obey(self) -> None:
        """Answer every message; returns when told to drain, or when the supervisor is gone."""
        while (message := await self._channel.receive()) is not None:
            if message["do"] == "drain":
                return
            answer: Message = {"to": message["id"]}
            try:
                answer |= await self._do(message)
            except ScalelabError as error:
                answer["error"] = str(error)
            await self._channel.send(answer)

    async def _do(self, message: Message) -> Message:
        gateway = self._gateway
        match message["do"]:
            case "listen":
                await gateway.listen(message["number"], self._listeners[int(message["number"])])
            case "leave":
                gateway.leave(message["number"])
            case "apply":
                document = str(message["document"]).encode()
                rules = await asyncio.to_thread(rules_of, document, str(message["name"]))
                check_tokens(self._settings, rules)
                gateway.apply(rules)
            case "metrics":
                return {"text": generate_latest(self._registry).decode()}
            case _:
                pass
        return {"revision": gateway.rules.revision, "connections": gateway.connections}


async def serve(channel_fd: int, listener_fds: Sequence[int]) -> None:
    """The life of one worker. Raises what cannot be served at the start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for ignored in (signal.SIGINT, signal.SIGHUP):  # a terminal's; the supervisor acts on them
        signal.signal(ignored, signal.SIG_IGN)
    channel = await Channel.over(socket.socket(fileno=channel_fd))
    listeners = [socket.socket(fileno=number) for number in listener_fds]
    first = await channel.receive()
    if first is None:
        return
    settings = ProcessSettings.model_validate(first["settings"])
    rules = rules_of(str(first["document"]).encode(), str(first["name"]))
    telemetry = build_telemetry(
        TelemetrySettings(
            "gateway", log_level=settings.log_level, trace_export=settings.trace_export
        )
    )
    try:
        async with opened(settings, rules, telemetry) as gateway:
            worker = Worker(channel, listeners, settings, gateway, telemetry.registry)
            await gateway.listen(first["number"], listeners[int(first["number"])])
            calm_collector()
            await channel.send({"ready": True, "revision": rules.revision})
            obeying = asyncio.create_task(worker.obey(), name="obey")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait((obeying, stopping), return_when=asyncio.FIRST_COMPLETED)
            obeying.cancel()
            stopping.cancel()
            await gateway.stop()
    finally:
        telemetry.shutdown()
        channel.close()
        for listener in listeners:
            listener.close()


def main() -> None:
    """Serve until the end, then leave at once: nothing is left to clean up."""
    channel_fd, *listener_fds = (int(argument) for argument in sys.argv[1:])
    uvloop.run(serve(channel_fd, listener_fds))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
