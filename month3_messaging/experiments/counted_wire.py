"""A wire that counts: everything between a client and a local port goes through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Wire:
    """port: where clients connect. Bytes of the protocol alone, without TCP's and IP's headers."""

    port: int = 0
    connections: int = 0
    up_bytes: int = 0
    down_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.up_bytes + self.down_bytes


@asynccontextmanager
async def counted(target_port: int) -> AsyncGenerator[Wire, None]:
    """A wire to a port of this machine, for as long as the block runs."""
    wire = Wire()
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            carrying.add(task)
            task.add_done_callback(carrying.discard)
        wire.connections += 1
        # Cancelled only below, and nobody but the stream's own callback would hear of it.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
            try:
                await asyncio.gather(
                    _pump(reader, far_writer, wire, up=True),
                    _pump(far_reader, writer, wire, up=False),
                )
            finally:
                far_writer.close()
        writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in list(carrying):
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire, *, up: bool
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            if up:
                wire.up_bytes += len(data)
            else:
                wire.down_bytes += len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()
