"""JSON lines between the supervisor and a worker, over a socket pair made before the fork.

Each message is an object on a line of its own. `None` means the other side is gone: a process that
was killed says so by the kernel closing its end, which is how a worker learns of its parent's
death, and the other way round.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

Message = dict[str, Any]

_MAX_BYTES = 16 * 1024 * 1024
"""Of one message: a route file, or the metrics of one worker."""


class Channel:
    """One end. For one reader and many writers on one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """The channel over a connected socket, which it owns from now on."""
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=_MAX_BYTES)
        return cls(reader, writer)

    async def send(self, message: Message) -> None:
        """Write a message. A peer that is gone takes it silently; `receive` tells."""
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except (ConnectionError, RuntimeError):
            return

    async def receive(self) -> Message | None:
        """The next message; None when the peer has gone."""
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """End it; the peer hears None."""
        self._writer.transport.abort()
