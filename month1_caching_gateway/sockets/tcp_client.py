"""TCP echo client: sends frames, reads their echoes meanwhile, ends its direction, reads the rest.

Sending and reading go on side by side. A client that first sends everything and then reads would
wait for ever once both sides' buffers are full: the server stops reading it, by back-pressure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from month1_caching_gateway.sockets.framing import LENGTH, Decoder, Framing
from scalelab.errors import CorruptData, DeadlineExceeded, OutcomeUnknown, Unavailable


@dataclass(frozen=True, slots=True)
class Deadlines:
    """connect_s: for the connection. idle_s: without any progress. message_s: for one send to be
    taken by the kernel."""

    connect_s: float = 5.0
    idle_s: float = 10.0
    message_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Echoed:
    """What came back. frames, bytes: in the order they were sent, each equal to what was sent."""

    frames: int
    bytes: int


async def echo(
    host: str,
    port: int,
    payloads: Iterable[bytes],
    *,
    framing: Framing = LENGTH,
    deadlines: Deadlines | None = None,
    buffer_bytes: int = 1 << 16,
) -> Echoed:
    """Send all payloads, half-close, and check every echo.

    Raises Unavailable if there is no connection, DeadlineExceeded if the peer stands still before
    anything was echoed or after, OutcomeUnknown if it closes before all came back, CorruptData if
    an echo differs. Memory: what is on its way, bounded by the buffers of both sides.
    """
    limits = deadlines or Deadlines()
    try:
        async with asyncio.timeout(limits.connect_s):
            reader, writer = await asyncio.open_connection(host, port, limit=buffer_bytes)
    except TimeoutError as error:
        raise DeadlineExceeded(f"no connection to {host}:{port} in {limits.connect_s} s") from error
    except OSError as error:
        raise Unavailable(f"no connection to {host}:{port}: {error}") from error
    writer.transport.set_write_buffer_limits(high=buffer_bytes)
    expected: asyncio.Queue[bytes | None] = asyncio.Queue()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(writer, payloads, framing, limits, expected))
            checking = group.create_task(_check(reader, framing, limits, expected))
        return checking.result()
    except ExceptionGroup as errors:  # the first is the cause; the other task was cancelled by it
        raise errors.exceptions[0] from errors
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(
    writer: asyncio.StreamWriter,
    payloads: Iterable[bytes],
    framing: Framing,
    limits: Deadlines,
    expected: asyncio.Queue[bytes | None],
) -> None:
    try:
        for payload in payloads:
            writer.write(framing.encode(payload))
            expected.put_nowait(payload)
            async with asyncio.timeout(limits.message_s):
                await writer.drain()
        writer.write_eof()
    except TimeoutError as error:
        raise DeadlineExceeded("the peer does not read") from error
    except OSError as error:
        raise OutcomeUnknown(f"the connection broke: {error}") from error
    expected.put_nowait(None)


async def _check(
    reader: asyncio.StreamReader,
    framing: Framing,
    limits: Deadlines,
    expected: asyncio.Queue[bytes | None],
) -> Echoed:
    frames = size = 0
    decoder = framing.decoder(1 << 30)
    while (wanted := await expected.get()) is not None:
        got = await _next(reader, decoder, limits)
        if got != wanted:
            raise CorruptData(f"echo {frames} differs from what was sent", code="echo_differs")
        frames, size = frames + 1, size + len(got)
    return Echoed(frames, size)


async def _next(reader: asyncio.StreamReader, decoder: Decoder, limits: Deadlines) -> bytes:
    while (frame := decoder.next_frame()) is None:
        try:
            async with asyncio.timeout(limits.idle_s):
                piece = await reader.read(1 << 16)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no echo within {limits.idle_s} s") from error
        except OSError as error:
            raise OutcomeUnknown(f"the connection broke: {error}") from error
        if not piece:
            raise OutcomeUnknown("the peer closed before everything came back")
        decoder.feed(piece)
    return frame
