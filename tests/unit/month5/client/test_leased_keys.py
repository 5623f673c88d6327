"""Claims about watches of leased keys, at nodes that die in the middle of what they tell."""

from __future__ import annotations

import base64
import json
from contextlib import aclosing
from random import Random

from aiohttp import web
from aiohttp.test_utils import TestServer

from month5_kvstore.client import KvClient, LeasedKeys
from scalelab.clock import SystemClock


def _event(key: bytes, modified: int) -> bytes:
    text = base64.b64encode(key).decode()
    item = {"key": text, "value": text, "encoding": "base64", "created": 1, "modified": modified}
    item |= {"version": 2, "lease": 0}
    return b"data: " + json.dumps({"kind": "put", "item": item}).encode() + b"\n\n"


async def test_a_stream_that_ends_within_a_revision_is_taken_up_within_it() -> None:
    """Two keys changed at revision 5; the node dies after the first, and each comes once."""
    asked: list[int] = []
    stretches = [
        [_event(b"{x}/a", 4), _event(b"{x}/b", 5)],
        [_event(b"{x}/b", 5), _event(b"{x}/c", 5), _event(b"{x}/d", 6)],
    ]

    async def watch(request: web.Request) -> web.StreamResponse:
        asked.append(int(request.query["revision"]))
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for event in stretches[min(len(asked), len(stretches)) - 1]:
            await answer.write(event)
        return answer

    application = web.Application()
    application.router.add_get("/v1/watch", watch)
    async with TestServer(application) as node:
        urls = {1: str(node.make_url("/"))}
        keys = LeasedKeys(KvClient(urls, clock=SystemClock(), random=Random(1)), urls)
        seen: list[tuple[bytes, int]] = []
        async with aclosing(keys.watch(b"{x}/", 4)) as changes:
            async for change in changes:
                seen.append((change.item.key, change.item.modified))
                if change.item.key == b"{x}/d":
                    break
    assert seen == [(b"{x}/a", 4), (b"{x}/b", 5), (b"{x}/c", 5), (b"{x}/d", 6)]
    assert asked == [4, 5]
