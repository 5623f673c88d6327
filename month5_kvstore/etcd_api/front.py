"""One port for both languages, as etcd has it: what begins like HTTP/2 goes to gRPC's door.

A client of etcd knows one address a member. The first bytes of a connection say which door it
wants; from then on bytes are passed on as they are, both ways, no faster than they are taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from month5_kvstore.etcd_api.member import Member
from scalelab.errors import Unavailable

_PREFACE = b"PRI * HTTP/2.0"
_FIRST_WORD_S = 30.0
_PIECE_BYTES = 64 << 10
Address = tuple[str, int]


@asynccontextmanager
async def serving_etcd(
    member: Member, *, host: str, port: int, http: Address
) -> AsyncGenerator[None, None]:
    """etcd's API on one port until the block ends. http: where the JSON gateway is served.

    Raises Unavailable (address_in_use). Needs the package grpcio.
    """
    from month5_kvstore.etcd_api.grpc_door import serving_grpc

    async with serving_grpc(member) as grpc_port:
        front = _Front(http, ("127.0.0.1", grpc_port))
        try:
            server = await asyncio.start_server(front.admit, host, port)
        except OSError as error:
            raise Unavailable(f"Cannot listen on {host}:{port}", code="address_in_use") from error
        try:
            yield
        finally:
            server.close()
            await front.close()


class _Front:
    def __init__(self, http: Address, grpc: Address) -> None:
        self._http = http
        self._grpc = grpc
        self._open: set[asyncio.Task[None]] = set()

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, TimeoutError, EOFError, RuntimeError):
            pass  # one side is gone: so is the connection
        except asyncio.CancelledError:
            pass  # the node stops; nobody else awaits this task
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut what is open."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b""
        async with asyncio.timeout(_FIRST_WORD_S):
            while _PREFACE.startswith(first) and len(first) < len(_PREFACE):
                piece = await reader.read(_PIECE_BYTES)
                if not piece:
                    return
                first += piece
        door = self._grpc if first.startswith(_PREFACE) else self._http
        inner_reader, inner_writer = await asyncio.open_connection(*door)
        ways = [
            asyncio.create_task(_copy(reader, inner_writer, first)),
            asyncio.create_task(_copy(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            inner_writer.close()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        piece = first or await reader.read(_PIECE_BYTES)
        while piece:
            writer.write(piece)
            await writer.drain()
            piece = await reader.read(_PIECE_BYTES)
