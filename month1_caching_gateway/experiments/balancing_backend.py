"""One backend of the experiment load-balancing: answers its name after a fixed time.

Arguments: name, port, delay in seconds. GET /count says how many requests it was sent, GET
/health/ready answers at once; everything else waits for the delay, however many wait together.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class Backend(asyncio.Protocol):
    """One connection; one request at a time, as every proxy sends them."""

    asked = 0

    def __init__(self, name: str, delay_s: float) -> None:
        self._name = name
        self._delay_s = delay_s
        self._inbox = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        if not self._inbox.endswith(b"\r\n\r\n"):
            return
        target, self._inbox = self._inbox.split(b" ", 2)[1], b""
        if target == b"/count":
            self._answer(str(Backend.asked))
        elif target == b"/health/ready":
            self._answer("ready")
        else:
            Backend.asked += 1
            asyncio.get_running_loop().call_later(self._delay_s, self._answer, self._name)

    def _answer(self, text: str) -> None:
        if not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
            self._transport.write((head + text).encode())


async def main() -> None:
    """Serve until killed."""
    name, port, delay_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(name, delay_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
