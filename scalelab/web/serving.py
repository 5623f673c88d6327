"""Serve an app in the current event loop, and stop without dropping a request.

The order of a stop: readiness turns 503 and event streams are asked to end; after `notice_s` the
listener closes; requests in flight get up to `drain_s`; what is left is cancelled with a 503;
the app's lifespan shuts down; `serve` returns. Nothing here installs signal handlers except
`install_stop_signals`, which a process's entry calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI

from scalelab.errors import Unavailable
from scalelab.web.app import lifecycle_of
from scalelab.web.bounded_protocol import BoundedHttpProtocol
from scalelab.web.lifecycle import Lifecycle

_BACKLOG = 1024
_AFTER_ABORT_S = 2


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals belong to the process's entry, not to one of its servers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()


async def serve(
    app: FastAPI,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    drain_s: float = 10.0,
    access_log: bool = False,
    notice_s: float = 0.0,
    on_listening: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then drain and return.

    port 0 takes a free one; `on_listening(host, port)` hears which. access_log: uvicorn's own
    lines, beside the app's. notice_s: time between "not ready" and the closed listener, for
    balancers to look. Raises Unavailable (code address_in_use) if the port is taken, and the
    lifespan's own exception if that fails to start. Cancelled, it skips the drain and cleans up.
    """
    lifecycle = lifecycle_of(app)
    listener = _listen(host, port)
    bound_port: int = listener.getsockname()[1]

    def listening() -> None:
        if on_listening is not None:
            on_listening(host, bound_port)

    server = _Server(_config(app, drain_s, access_log), listening)
    stopper = asyncio.create_task(
        _stop(server, lifecycle, stop, drain_s=drain_s, notice_s=notice_s), name="drain"
    )
    try:
        await server.serve(sockets=[listener])
    except asyncio.CancelledError:
        # No drain was asked for: answer what is in flight with 503, close, shut the lifespan.
        lifecycle.begin_drain()
        lifecycle.abort_requests()
        if server.started:
            await server.shutdown(sockets=[listener])
        raise
    except SystemExit as error:
        raise (lifecycle.startup_error or Unavailable("The server did not start.")) from error
    finally:
        listener.close()
        stopper.cancel()
        await asyncio.wait([stopper])


def install_stop_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT. Call in the main thread, inside the running loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _stop(
    server: uvicorn.Server,
    lifecycle: Lifecycle,
    stop: asyncio.Event,
    *,
    drain_s: float,
    notice_s: float,
) -> None:
    await stop.wait()
    lifecycle.begin_drain()
    await asyncio.sleep(notice_s)
    server.should_exit = True
    await asyncio.sleep(drain_s)
    lifecycle.abort_requests()


def _config(app: FastAPI, drain_s: float, access_log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        loop="none",
        lifespan="on",
        log_config=None,
        access_log=access_log,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        # Our own abort comes first and answers 503; this one is for tasks that ignore it.
        timeout_graceful_shutdown=math.ceil(drain_s) + _AFTER_ABORT_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Cannot listen on {host}:{port}: {error.strerror}", code="address_in_use"
        ) from error
    return listener
