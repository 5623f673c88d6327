"""The Thrift door and frames that are none."""

from __future__ import annotations

import asyncio

import pytest

from month3_messaging.rpc import StockDesk
from month3_messaging.rpc.thrift_client import ThriftStock
from month3_messaging.rpc.thrift_door import MAX_FRAME_BYTES, serving_thrift
from scalelab.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "sent",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x05hello",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["too long", "empty", "negative", "no message", "another protocol"],
)
async def test_a_frame_that_is_none_ends_its_connection_alone(sent: bytes) -> None:
    """The peer is hung up on; the door goes on serving others."""
    async with serving_thrift(StockDesk({"pen": 10}, ManualClock())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        async with ThriftStock("127.0.0.1", port) as stock:
            assert await stock.levels(["pen"], timeout_s=30.0) == {"pen": 10}
