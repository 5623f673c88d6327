"""The TCP echo with real sockets: back-pressure, deadlines, half-close, a graceful stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from month1_caching_gateway.sockets import (
    FRAMINGS,
    LENGTH,
    Closed,
    Deadlines,
    Framing,
    Limits,
    TcpEchoServer,
    echo,
    prefixed,
)
from scalelab.errors import DeadlineExceeded, OutcomeUnknown, Unavailable

HOST = "127.0.0.1"
LONG_S = 30.0
SHORT_S = 0.2
"""A deadline that is meant to pass; nothing is asserted about how fast it does."""

pytestmark = pytest.mark.anyio

Ended = asyncio.Queue[Closed]


def server(ended: Ended, *, framing: Framing = LENGTH, **limits: float) -> TcpEchoServer:
    """A server with long deadlines but for those that a test gives."""
    settings = {"idle_s": LONG_S, "message_s": LONG_S, **limits}
    return TcpEchoServer(framing=framing, limits=Limits(**settings), on_closed=ended.put_nowait)  # pyright: ignore[reportArgumentType]


async def account(ended: Ended) -> Closed:
    """The next connection's account."""
    async with asyncio.timeout(LONG_S):
        return await ended.get()


async def until(holds: Callable[[], bool], claim: str) -> None:
    """Poll, with a deadline."""
    async with asyncio.timeout(LONG_S):
        while not holds():  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.005)
    assert holds(), claim


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
async def test_everything_comes_back_in_order(framing: Framing) -> None:
    """The client half-closes after its last frame; the server echoes all before it ends."""
    ended: Ended = asyncio.Queue()
    sent = [b"%d" % number * (number % 50 + 1) for number in range(500)]
    async with server(ended, framing=framing) as running:
        back = await echo(HOST, running.port, sent, framing=framing)
        assert (back.frames, back.bytes) == (500, sum(map(len, sent)))
        told = await account(ended)
    assert (told.end, told.frames, told.bytes) == ("finished", 500, back.bytes)


async def test_more_than_all_buffers_hold_comes_back(count: Callable[..., int]) -> None:
    """Far more than both sides and the kernel can buffer: neither waits for the other for ever."""
    frames = count(2000, share=0.1)
    ended: Ended = asyncio.Queue()
    async with server(ended, buffer_bytes=16_384) as running:
        back = await echo(
            HOST, running.port, (bytes(65_536) for _ in range(frames)), buffer_bytes=16_384
        )
    assert back.bytes == frames * 65_536


async def test_a_peer_that_does_not_read_is_not_read_either() -> None:
    """Back-pressure: the peer's own send buffer fills up, and only so much was taken from it."""
    ended: Ended = asyncio.Queue()
    async with server(ended, buffer_bytes=8192) as running:
        with socket.create_connection((HOST, running.port)) as peer:
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            frame = prefixed(bytes(4092))
            taken = 0
            full = 0
            async with asyncio.timeout(LONG_S):
                while full < 40:  # the kernel took nothing 40 times in a row
                    try:
                        taken += peer.send(frame[taken % len(frame) :])  # goes on where it stopped
                        full = 0
                    except BlockingIOError:
                        full += 1
                        await asyncio.sleep(0.005)
            limit = 64 << 20
            assert taken < limit, "the server would have buffered without end"
            assert running.connections == 1


async def test_a_peer_that_never_reads_is_closed_by_name() -> None:
    """The echo may take `message_s` to leave, no longer."""
    ended: Ended = asyncio.Queue()
    async with server(ended, buffer_bytes=8192, message_s=SHORT_S) as running:
        _, writer = await asyncio.open_connection(HOST, running.port)

        async def send_for_ever() -> None:
            while True:
                writer.write(prefixed(bytes(60_000)))
                await writer.drain()

        with pytest.raises(OSError):
            await send_for_ever()
        assert (await account(ended)).end == "slow_reader"
        writer.close()


async def test_a_silent_peer_is_closed_as_idle() -> None:
    """Between frames, after `idle_s`."""
    ended: Ended = asyncio.Queue()
    async with server(ended, idle_s=SHORT_S) as running:
        reader, writer = await asyncio.open_connection(HOST, running.port)
        assert await reader.read() == b""
        assert (await account(ended)).end == "idle"
        writer.close()
        await writer.wait_closed()


async def test_half_a_frame_is_not_waited_for_for_ever() -> None:
    """A drop of bytes at a time does not extend the deadline of a frame that has begun."""
    ended: Ended = asyncio.Queue()
    async with server(ended, message_s=SHORT_S) as running:
        _, writer = await asyncio.open_connection(HOST, running.port)
        writer.write(prefixed(bytes(100_000))[:50])
        told: asyncio.Task[Closed] = asyncio.create_task(account(ended))
        while not told.done():
            writer.write(b"\0")
            await asyncio.sleep(0.01)
        assert told.result().end == "slow_message"
        writer.close()


@pytest.mark.parametrize(
    ("stream", "end"),
    [
        (b"\xff\xff\xff\xff", "frame_too_large"),
        (prefixed(b"whole") + prefixed(b"half")[:-1], "frame_truncated"),
    ],
    ids=["too-large", "truncated"],
)
async def test_bad_frames_end_the_connection_with_a_stable_name(stream: bytes, end: str) -> None:
    """And the server goes on serving others."""
    ended: Ended = asyncio.Queue()
    async with server(ended) as running:
        reader, writer = await asyncio.open_connection(HOST, running.port)
        writer.write(stream)
        writer.write_eof()
        answered = await reader.read()
        assert (await account(ended)).end == end
        assert answered in (b"", prefixed(b"whole"))
        writer.close()
        await writer.wait_closed()
        assert (await echo(HOST, running.port, [b"next"])).frames == 1


async def test_a_reset_peer_is_forgotten() -> None:
    """SO_LINGER 0: the peer vanishes with a reset."""
    ended: Ended = asyncio.Queue()
    async with server(ended) as running:
        peer = socket.create_connection((HOST, running.port))
        await until(lambda: running.connections == 1, "the connection is accepted")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        assert (await account(ended)).end == "reset"
        assert running.connections == 0


async def test_one_connection_too_many_is_closed_and_the_others_go_on() -> None:
    """The bound holds; a place is free again when somebody leaves."""
    ended: Ended = asyncio.Queue()
    async with server(ended, connections=1) as running:
        first_reader, first = await asyncio.open_connection(HOST, running.port)
        await until(lambda: running.connections == 1, "the first is in")
        with pytest.raises(OutcomeUnknown):
            await echo(HOST, running.port, [b"second"])
        assert (await account(ended)).end == "too_many"
        first.write(prefixed(b"still here"))
        assert await first_reader.readexactly(14) == prefixed(b"still here")
        first.close()
        await first.wait_closed()
        assert (await account(ended)).end == "finished"
        assert (await echo(HOST, running.port, [b"third"])).frames == 1


async def test_a_stop_lets_a_begun_frame_finish_and_ends_the_rest() -> None:
    """Between frames: ended at once. Inside one: echoed, then ended. No new connection."""
    ended: Ended = asyncio.Queue()
    running = server(ended)
    await running.start()
    quiet_reader, quiet = await asyncio.open_connection(HOST, running.port)
    busy_reader, busy = await asyncio.open_connection(HOST, running.port)
    quiet.write(prefixed(b"one"))
    assert await quiet_reader.readexactly(7) == prefixed(b"one")
    busy.write(prefixed(b"one") + prefixed(b"two")[:-1])
    assert await busy_reader.readexactly(7) == prefixed(b"one")
    stopping = asyncio.create_task(running.stop(within_s=LONG_S))
    assert await quiet_reader.read() == b""
    busy.write(prefixed(b"two")[-1:])
    assert await busy_reader.read() == prefixed(b"two")
    await stopping
    assert {(await account(ended)).end for _ in range(2)} == {"stopped"}
    with pytest.raises(Unavailable):
        await echo(HOST, running.port, [b"late"])
    for writer in (quiet, busy):
        writer.close()
        await writer.wait_closed()


async def test_a_stop_does_not_wait_for_a_peer_that_never_finishes() -> None:
    """At its limit the rest is cut."""
    ended: Ended = asyncio.Queue()
    running = server(ended)
    await running.start()
    reader, writer = await asyncio.open_connection(HOST, running.port)
    writer.write(prefixed(b"one") + b"\0\0")
    assert await reader.readexactly(7) == prefixed(b"one")
    await running.stop(within_s=SHORT_S)
    assert (await account(ended)).end == "stopped"
    assert running.connections == 0
    writer.close()


async def test_the_client_gives_up_on_a_server_that_stands_still() -> None:
    """It accepted and then neither reads nor answers: a frozen peer, seen by the deadline alone."""
    with socket.create_server((HOST, 0)) as frozen:
        port = frozen.getsockname()[1]
        with pytest.raises(DeadlineExceeded):
            await echo(HOST, port, [b"hello"], deadlines=Deadlines(idle_s=SHORT_S))


async def test_the_client_says_that_nobody_listens() -> None:
    """Retryable: nothing was sent."""
    with socket.create_server((HOST, 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Unavailable):
        await echo(HOST, port, [b"hello"])


async def test_the_client_does_not_call_half_an_echo_a_success() -> None:
    """The server closes after the first of two: what became of the second is unknown."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(7))
        writer.close()

    listening = await asyncio.start_server(once, HOST, 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(OutcomeUnknown):
            await echo(HOST, port, [b"one", b"two"])
