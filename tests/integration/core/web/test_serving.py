"""Serving on real sockets: limits on the wire, and a stop that drops nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from scalelab.errors import Unavailable
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import Event, EventStream, create_app, lifecycle_of, serve
from scalelab.web.bounded_protocol import HEAD_LIMIT
from tests.integration.core.web.served import served


class Gate:
    """A handler that says when it is entered and waits until it may go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = False
        self.router = APIRouter()
        self.router.add_api_route("/slow", self.slow, methods=["GET"])

    async def slow(self) -> dict[str, bool]:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return {"ok": True}


def echo() -> APIRouter:
    router = APIRouter()

    @router.post("/echo")
    async def post(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    return router


@dataclass(frozen=True)
class Said:
    """An answer, read to its end, its connection given back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.body)


async def ask(
    session: aiohttp.ClientSession, url: str, method: str = "GET", data: bytes | None = None
) -> Said:
    async with session.request(method, url, data=data) as answer:
        return Said(answer.status, answer.headers, await answer.read())


async def raw(port: int, *parts: bytes) -> bytes:
    """Everything the server says to these octets, until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            except ConnectionError:
                pass  # refused on the way; what was said before still counts
            said = b""
            try:
                while data := await reader.read(65536):
                    said += data
            except ConnectionError:
                pass
            return said
    finally:
        writer.close()


async def test_requests_in_flight_are_answered_after_the_stop() -> None:
    """Accepted means answered: the drain waits, then the process goes."""
    gate = Gate()
    async with served(gate.router) as it, aiohttp.ClientSession() as session:
        request = asyncio.create_task(ask(session, f"{it.url}/slow"))
        await gate.entered.wait()
        it.stop.set()
        await lifecycle_of(it.app).draining.wait()
        gate.open.set()
        answer = await request
        assert answer.status == 200
        assert answer.json == {"ok": True}
        await it.task
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(session, f"{it.url}/health/live")


async def test_readiness_turns_before_the_listener_closes() -> None:
    """With a notice, a balancer that asks sees 503 while new requests are still served."""
    log_telemetry = build_telemetry(TelemetrySettings("test", "error"))
    app = create_app(telemetry=log_telemetry, routers=[echo()])
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            app, host="127.0.0.1", port=0, stop=stop, notice_s=60,
            on_listening=lambda _host, bound: port.set_result(bound),
        )
    )  # fmt: skip
    url = f"http://127.0.0.1:{await port}"
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, f"{url}/health/ready")).status == 200
        stop.set()
        await lifecycle_of(app).draining.wait()
        ready = await ask(session, f"{url}/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "draining")
        assert (await ask(session, f"{url}/echo", "POST", b"x")).status == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_outlives_the_drain_gets_503_and_is_cancelled() -> None:
    """A stuck handler cannot keep a process; its caller is told to try again."""
    gate = Gate()
    async with served(gate.router, drain_s=0.3) as it, aiohttp.ClientSession() as session:
        request = asyncio.create_task(ask(session, f"{it.url}/slow"))
        await gate.entered.wait()
        it.stop.set()
        answer = await request
        assert (answer.status, answer.json["code"]) == (503, "shutting_down")
        assert answer.headers["retry-after"] == "1"
        await it.task
        assert gate.cancelled


async def test_cancelled_server_cleans_up_and_stays_cancelled() -> None:
    """Requests get their 503, the lifespan ends, the port is free, the cancellation goes on."""
    ended = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        yield
        ended.set()

    gate = Gate()
    async with served(gate.router, lifespan=lifespan) as it, aiohttp.ClientSession() as session:
        request = asyncio.create_task(ask(session, f"{it.url}/slow"))
        await gate.entered.wait()
        it.task.cancel()
        assert (await request).status == 503
        await asyncio.wait([it.task])
        assert it.task.cancelled()
        assert ended.is_set()
        with socket.create_server(("127.0.0.1", it.port)):
            pass


async def test_event_stream_ends_on_stop_and_its_client_sees_a_proper_end() -> None:
    """An open stream does not hold the drain, and is not torn off."""
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Event("first")
            await asyncio.Event().wait()
        finally:
            closed.set()

    router = APIRouter()

    @router.get("/events", response_model=None)
    async def stream() -> Response:
        return EventStream(events())

    async with served(router, drain_s=60) as it, aiohttp.ClientSession() as session:
        async with session.get(f"{it.url}/events") as answer:
            assert await answer.content.readuntil(b"\n\n") == b"data: first\n\n"
            it.stop.set()
            assert await answer.content.read() == b""
        await it.task
    assert closed.is_set()


async def test_event_stream_ends_when_its_client_leaves() -> None:
    """The generator is closed as soon as nobody reads; nothing is left running."""
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Event("first")
            await asyncio.Event().wait()
        finally:
            closed.set()

    router = APIRouter()

    @router.get("/events", response_model=None)
    async def stream() -> Response:
        return EventStream(events())

    async with served(router) as it:
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{it.url}/events")
            await answer.content.readuntil(b"\n\n")
            answer.close()
        async with asyncio.timeout(10):
            await closed.wait()


async def test_chunked_body_over_the_limit_is_413_while_streaming_in() -> None:
    """The caller reads the problem although it has not finished sending."""
    chunk = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
    head = b"POST /echo HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served(echo()) as it:
        said = await raw(it.port, head, *[chunk] * 40, b"0\r\n\r\n")
    status, _, rest = said.partition(b"\r\n")
    assert status == b"HTTP/1.1 413 Request Entity Too Large"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["code"] == "body_too_large"


async def test_chunked_body_within_the_limit_arrives_whole() -> None:
    """The control, over many reads of the socket."""
    chunk = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
    head = (
        b"POST /echo HTTP/1.1\r\nhost: t\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    async with served(echo()) as it:
        said = await raw(it.port, head, *[chunk] * 16, b"0\r\n\r\n")
    assert json.loads(said.partition(b"\r\n\r\n")[2]) == {"size": 16 * 65536}


async def test_declared_length_over_the_limit_is_413_before_the_body() -> None:
    """The answer does not wait for octets that nobody wants."""
    head = b"POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999\r\n\r\n"
    async with served(echo()) as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(head)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_headers_over_the_limit_are_431_as_a_problem() -> None:
    """16 KiB of headers is where the app says no, politely."""
    head = b"GET /echo HTTP/1.1\r\nhost: t\r\nx: " + b"x" * 20_000 + b"\r\n\r\n"
    async with served(echo()) as it:
        said = await raw(it.port, head)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["code"] == "header_too_large"


@pytest.mark.parametrize(
    "endless",
    [b"x" * 65536, b"x: y\r\n" * 8192, b"/x" * 32768],
    ids=["one-value", "many-headers", "target"],
)
async def test_endless_head_is_cut_off(endless: bytes) -> None:
    """A head that never ends cannot fill the memory: 431 and a closed connection."""
    start = b"GET /" if endless.startswith(b"/") else b"GET / HTTP/1.1\r\nhost: t\r\nx: "
    async with served(echo()) as it:
        said = await raw(it.port, start, *[endless] * (4 * HEAD_LIMIT // len(endless) + 8))
        assert said == b"" or said.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
        async with aiohttp.ClientSession() as session:
            assert (await ask(session, f"{it.url}/health/live")).status == 200


async def test_large_bodies_in_one_connection_are_not_taken_for_heads() -> None:
    """The bound on heads counts heads only, request after request."""
    size = 900_000
    async with served(echo()) as it, aiohttp.ClientSession() as session:
        for _ in range(5):
            answer = await ask(session, f"{it.url}/echo", "POST", b"x" * size)
            assert answer.json == {"size": size}


async def test_caller_that_hangs_up_in_its_body_is_logged_as_499() -> None:
    """No handler runs, nothing is counted as our failure."""
    async with served(echo()) as it:
        _, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while "request" not in it.log.getvalue():  # noqa: ASYNC110 - the log has no event
                await asyncio.sleep(0.005)
        assert json.loads(it.log.getvalue())["status"] == 499


async def test_taken_port_is_said_so() -> None:
    """What, where and why, as an error of ours; the lifespan never starts."""
    app = create_app(telemetry=build_telemetry(TelemetrySettings("test")), routers=[])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=str(port)) as caught:
            await serve(app, host="127.0.0.1", port=port, stop=asyncio.Event())
    assert caught.value.stable_code == "address_in_use"


async def test_failing_lifespan_ends_serve_with_its_own_error() -> None:
    """Not SystemExit: in a monolith the entry decides what a failed service means."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        raise Unavailable("no database")
        yield

    with pytest.raises(Unavailable, match="no database"):
        async with served(lifespan=lifespan):
            pass


async def test_lifespan_ends_after_the_last_answer() -> None:
    """Pools are closed when nobody needs them any more."""
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        yield
        order.append("lifespan")

    router = APIRouter()
    entered, go = asyncio.Event(), asyncio.Event()

    @router.get("/slow")
    async def slow() -> None:
        entered.set()
        await go.wait()
        order.append("request")

    async with served(router, lifespan=lifespan) as it, aiohttp.ClientSession() as session:
        request = asyncio.create_task(ask(session, f"{it.url}/slow"))
        await entered.wait()
        it.stop.set()
        await lifecycle_of(it.app).draining.wait()
        go.set()
        await request
        await it.task
    assert order == ["request", "lifespan"]


SCRIPT = """
    import asyncio, sys
    from scalelab.telemetry import TelemetrySettings, build_telemetry
    from scalelab.web import create_app, install_stop_signals, serve

    async def main():
        stop = asyncio.Event()
        install_stop_signals(stop)
        app = create_app(telemetry=build_telemetry(TelemetrySettings("s")), routers=[])
        await serve(app, host="127.0.0.1", port=0, stop=stop,
                    on_listening=lambda host, port: print(port, flush=True))
        print("stopped", flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_a_process_cleanly(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C drain and end with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        textwrap.dedent(SCRIPT),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, f"http://127.0.0.1:{port}/health/ready")).status == 200
    process.send_signal(number)
    out, error = await process.communicate()
    assert (process.returncode, out, error) == (0, b"stopped\n", b"")
