"""A customer's WebSocket on the orders' door, with a library that is not ours."""

from __future__ import annotations

import asyncio
import json

import websockets

from month3_messaging.status import PATH, SUBPROTOCOL


async def watched(
    address: str, token: str, order_id: str, *, within_s: float
) -> list[tuple[int, str]]:
    """Versions and statuses of an order up to the word that nothing can follow, as a browser would
    ask for them: the token comes as a second subprotocol. address: host:port."""
    offered = [websockets.Subprotocol(SUBPROTOCOL), websockets.Subprotocol(f"bearer.{token}")]
    seen: list[tuple[int, str]] = []
    async with (
        asyncio.timeout(within_s),
        websockets.connect(
            f"ws://{address}{PATH}", subprotocols=offered, open_timeout=within_s
        ) as client,
    ):
        assert client.subprotocol == SUBPROTOCOL
        await client.send(json.dumps({"type": "follow", "order_id": order_id}))
        while (told := json.loads(await client.recv()))["type"] == "status":
            assert told["order_id"] == order_id
            seen.append((told["version"], told["status"]))
    assert told == {"type": "ended", "order_id": order_id}
    return seen
