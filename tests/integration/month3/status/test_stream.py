"""Order status by server-sent events: complete, in order, resumable, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp

from month3_messaging.orders import SagaEffects, order_saga
from scalelab.clock import SystemClock
from tests.integration.month3.messaging_bed import DEADLINE_S, poll_until
from tests.integration.month3.orders_bed import Shop, age
from tests.integration.month3.status.moves import captured, placed, reserved, tell


@asynccontextmanager
async def watching(
    shop: Shop, order_id: str, *, after: int | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = shop.headers("ann")
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    async with shop.http.get(
        f"{shop.url}/api/v1/orders/{order_id}/events", headers=headers
    ) as answer:
        yield answer


async def next_event(answer: aiohttp.ClientResponse) -> tuple[int, str] | None:
    """The next event's id and status, None at the end; comments are passed over."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(DEADLINE_S):
        async for line in answer.content:
            text = line.decode().rstrip("\n")
            if not text and fields:
                data = json.loads(fields["data"])
                assert str(data["version"]) == fields["id"]
                assert fields["event"] == "status"
                return data["version"], data["status"]
            if text and not text.startswith(":"):
                name, _, value = text.partition(": ")
                fields[name] = value
    return None


async def rest(answer: aiohttp.ClientResponse) -> list[tuple[int, str]]:
    events: list[tuple[int, str]] = []
    while (event := await next_event(answer)) is not None:
        events.append(event)
    return events


async def test_a_watcher_sees_each_status_as_it_is_entered_and_then_the_end(shop: Shop) -> None:
    """The past first, then what happens, and the stream ends with the order."""
    order_id = await placed(shop)
    async with watching(shop, order_id) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert await next_event(answer) == (1, "pending")
        await captured(shop, order_id)
        assert await next_event(answer) == (2, "paid")
        await reserved(shop, order_id)
        assert await rest(answer) == [(3, "stock_reserved"), (4, "confirmed")]


async def test_a_client_resumes_where_it_left_off(shop: Shop) -> None:
    """Last-Event-ID 1: exactly what was missed meanwhile. At the end: 204, do not come again."""
    order_id = await placed(shop)
    async with watching(shop, order_id) as answer:
        assert await next_event(answer) == (1, "pending")
    await captured(shop, order_id)
    await reserved(shop, order_id)
    async with watching(shop, order_id, after=1) as answer:
        assert await rest(answer) == [(2, "paid"), (3, "stock_reserved"), (4, "confirmed")]
    async with watching(shop, order_id, after=4) as answer:
        assert answer.status == 204


async def test_a_cancelled_order_is_watched_until_payments_has_answered(shop: Shop) -> None:
    """`cancelled` is not the end while money may be owed; the word that none is ends the stream."""
    order_id = await placed(shop)
    effects = SagaEffects(order_saga(600.0), shop.sessions, SystemClock())
    async with watching(shop, order_id) as answer:
        assert await next_event(answer) == (1, "pending")
        async with shop.database.autocommit() as conn:
            await age(conn, timedelta(seconds=601))
        await effects.sweep(shop.database.transaction)
        assert await next_event(answer) == (2, "cancelled")
        await tell(shop, order_id, "payments.payment.failed.v1")
        assert await rest(answer) == []


async def test_a_lost_listener_misses_nothing(shop: Shop) -> None:
    """The hub's connection is terminated and the order moves meanwhile: the history fills in."""
    order_id = await placed(shop)
    async with watching(shop, order_id) as answer:
        assert await next_event(answer) == (1, "pending")
        await shop.hub.ready()
        async with shop.database.transaction() as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query ILIKE 'LISTEN%' AND datname = current_database()"
            )
        await captured(shop, order_id)
        await reserved(shop, order_id)
        assert await rest(answer) == [(2, "paid"), (3, "stock_reserved"), (4, "confirmed")]


async def test_silence_is_filled_with_comments(shop: Shop) -> None:
    """A heartbeat keeps proxies and clients from giving up."""
    order_id = await placed(shop)
    async with watching(shop, order_id) as answer:
        assert await next_event(answer) == (1, "pending")
        async with asyncio.timeout(DEADLINE_S):
            assert (await answer.content.readline()).startswith(b":")


async def test_streams_per_user_are_bounded_and_given_back(shop: Shop) -> None:
    """The fourth stream of a user is refused; when they are closed there is room again."""
    order_id = await placed(shop)
    async with (
        watching(shop, order_id),
        watching(shop, order_id),
        watching(shop, order_id),
        watching(shop, order_id) as refused,
    ):
        problem = await refused.json(content_type=None)
        assert (refused.status, problem["code"]) == (429, "too_many_streams")

    async def all_closed() -> bool:
        return shop.hub.watching == 0

    await poll_until(all_closed, "the hub has forgotten its watchers")


async def test_a_forged_last_event_id_is_refused(shop: Shop) -> None:
    """Only what a stream of ours gives out is taken."""
    order_id = await placed(shop)
    headers = shop.headers("ann", **{"Last-Event-ID": "one"})
    async with shop.http.get(
        f"{shop.url}/api/v1/orders/{order_id}/events", headers=headers
    ) as answer:
        assert answer.status == 422
