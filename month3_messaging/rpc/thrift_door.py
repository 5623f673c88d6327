"""The Thrift door: binary protocol in frames, served from the desk's event loop.

A frame is four bytes of length, then a message. Thrift's own servers bring threads of their own;
here each frame is worked on in a thread, and the thread asks the desk on its loop.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TException
from thrift.transport.TTransport import TMemoryBuffer

from month3_messaging.rpc.error_codes import told
from month3_messaging.rpc.generated import thrift_inventory as service
from month3_messaging.rpc.generated.thrift_ttypes import HoldRequest, Refused
from month3_messaging.rpc.stock_desk import Hold, HoldLine, StockDesk
from scalelab.errors import InvalidInput, ScalelabError

MAX_FRAME_BYTES = 256 * 1024
_IDLE_S = 300.0
T = TypeVar("T")


class _Handler:
    """The service's methods as Thrift calls them: in a thread."""

    def __init__(self, desk: StockDesk, loop: asyncio.AbstractEventLoop) -> None:
        self._desk = desk
        self._loop = loop

    def hold(self, request: HoldRequest) -> bool:
        lines = tuple(HoldLine(line.product_id, line.quantity) for line in request.lines or ())
        hold = Hold(request.hold_id or "", lines, request.ttl_s or 0.0)
        left_s = None if request.timeout_ms is None else request.timeout_ms / 1000
        return self._ask(self._desk.hold(hold, left_s=left_s))

    def levels(self, product_ids: list[str]) -> dict[str, int]:
        async def levels() -> dict[str, int]:
            return self._desk.levels(product_ids)

        return self._ask(levels())

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (ScalelabError, TypeError) as error:
            # A field of the wrong type, or none, is Thrift's way of saying that it was left out.
            ours = error if isinstance(error, ScalelabError) else InvalidInput("a field is missing")
            kind, code, message = told(ours)
            raise Refused(kind=kind, code=code, message=message) from error


@asynccontextmanager
async def serving_thrift(
    desk: StockDesk, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[int, None]:
    """Serve until the block ends; yields the port. Connections are cut then: a call that was begun
    goes on at the desk, and its caller asks again."""
    processor = service.Processor(_Handler(desk, asyncio.get_running_loop()))
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            talking.add(task)
        try:
            # Cancelled only below, and nobody but the stream's own callback would hear of it.
            with contextlib.suppress(asyncio.CancelledError):
                await _converse(processor, reader, writer)
        finally:
            if task is not None:
                talking.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(talk, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(talking):
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


async def _converse(
    processor: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Frame after frame, until the peer leaves, falls silent, or sends what is none."""
    with contextlib.suppress(OSError, EOFError, TimeoutError, TException):
        while True:
            async with asyncio.timeout(_IDLE_S):
                size = int.from_bytes(await reader.readexactly(4), "big")
                if not 0 < size <= MAX_FRAME_BYTES:
                    return
                frame = await reader.readexactly(size)
            answer = await asyncio.to_thread(_answer, processor, frame)
            writer.write(len(answer).to_bytes(4, "big") + answer)
            await writer.drain()


def _answer(processor: Any, frame: bytes) -> bytes:
    """Raises TException or EOFError if the frame is no message."""
    read, written = TMemoryBuffer(frame), TMemoryBuffer()
    protocol = TBinaryProtocol(
        read, string_length_limit=MAX_FRAME_BYTES, container_length_limit=MAX_FRAME_BYTES
    )
    processor.process(protocol, TBinaryProtocol(written))
    return written.getvalue()
