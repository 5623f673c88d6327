"""One process of a service that can be made to misbehave; started by the tests of balancing.

    GET  /health/ready   200, or 503 once it drains
    PUT  /mode           ok, slow, garbage, unavailable, hang-up: how it answers from now on
    *    /…              does what it is asked: writes `method target` to a file, then says its name

Environment: NODE_NAME, NODE_EFFECTS (the file), NODE_PORT. The file is written before the answer,
so what the process did is known after it was killed. On SIGTERM it says that it is not ready, goes
on serving until it has told somebody so and nobody has asked for a while, and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TextIO

QUIET_S = 0.5
SLOW_S = 0.4


class Node:
    """The process's state."""

    def __init__(self, name: str, effects: TextIO) -> None:
        self.name = name
        self.mode = "ok"
        self.draining = False
        self.told = asyncio.Event()
        self.asked_at_s = 0.0
        self._effects = effects

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        length = 0
        for line in head.split("\r\n"):
            if line.lower().startswith("content-length:"):
                length = int(line.partition(":")[2])
        body = await reader.readexactly(length)
        if target == "/health/ready":
            writer.write(self._answer(503 if self.draining else 200))
            if self.draining:
                self.told.set()
            return True
        if target == "/mode":
            self.mode = body.decode()
            writer.write(self._answer(200))
            return True
        return await self._work(method, target, writer)

    async def _work(self, method: str, target: str, writer: asyncio.StreamWriter) -> bool:
        self.asked_at_s = asyncio.get_running_loop().time()
        if self.mode == "slow":
            await asyncio.sleep(SLOW_S)
        self._effects.write(f"{method} {target}\n")
        self._effects.flush()
        if self.mode == "garbage":
            writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        elif self.mode == "unavailable":
            writer.write(self._answer(503))
        elif self.mode == "hang-up":
            return False
        else:
            writer.write(self._answer(200))
        return not self.draining

    def _answer(self, status: int) -> bytes:
        body = self.name.encode()
        close = b"connection: close\r\n" if self.draining else b""
        return (
            b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%b\r\n" % (status, len(body), close)
        ) + body


async def main() -> None:
    """Serve until SIGTERM, then drain."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    with open(os.environ["NODE_EFFECTS"], "a", encoding="utf-8") as effects:  # noqa: ASYNC230
        node = Node(os.environ["NODE_NAME"], effects)
        server = await asyncio.start_server(node.serve, "127.0.0.1", int(os.environ["NODE_PORT"]))
        await end.wait()
        node.draining = True
        await node.told.wait()
        while loop.time() - node.asked_at_s < QUIET_S:  # noqa: ASYNC110 - what is awaited is quiet
            await asyncio.sleep(0.02)
        server.close()
    sys.exit(0)


if __name__ == "__main__":
    asyncio.run(main())
