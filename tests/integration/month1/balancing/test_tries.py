"""Second tries, second copies, ejection and replaced endpoints, with peers in this process."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import get_args

import pytest

from month1_caching_gateway.balancing import (
    KEYED,
    Balance,
    Budget,
    HedgePolicy,
    OutlierPolicy,
)
from month1_caching_gateway.gateway import Endpoint, Retries, Upstream
from tests.integration.month1.gateway.harness import (
    Answer,
    Peer,
    Seen,
    client,
    echo,
    peer,
    plain,
    running,
    until,
)


def answering(status: int, *headers: tuple[str, str]) -> Answer:
    """Says that, always."""

    async def answer(_s: Seen, _r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        w.write(plain(status, b"{}", *headers))
        await w.drain()
        return True

    return answer


async def hang(_s: Seen, reader: asyncio.StreamReader, _w: asyncio.StreamWriter) -> bool:
    """Says nothing until the gateway hangs up."""
    await reader.read()
    return False


@pytest.mark.parametrize("balance", get_args(Balance))
async def test_every_pick_is_a_policy_and_picks_by_key_stick(balance: Balance) -> None:
    """All three endpoints are used; one path always goes to one of them if the pick is by key."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer()) for _ in range(3)]
        gateway = await stack.enter_async_context(running(peers, balance=balance))
        http = await stack.enter_async_context(client(gateway.port))
        for number in range(60):
            assert (await http.ask("GET", f"/{number % 20}")).status == 200
        assert all(one.seen for one in peers)
        homes = Counter(target for one in peers for target in {seen.target for seen in one.seen})
        if balance in KEYED:
            assert set(homes.values()) == {1}


async def test_an_unhealthy_answer_is_asked_elsewhere_and_never_for_a_plain_post() -> None:
    """503: a GET and a POST with a key get the other's answer; a POST without gets the 503."""
    async with (
        peer(answering(503)) as sick,
        peer() as well,
        running([sick, well], outlier=None) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(4):
            assert (await http.ask("GET", "/")).status == 200
            assert (await http.ask("POST", "/", b"{}", idempotency_key="k-123")).status == 200
        statuses = Counter([(await http.ask("POST", "/", b"{}")).status for _ in range(6)])
        assert statuses[503] >= 1
        posts = [seen for seen in (*sick.seen, *well.seen) if seen.method == "POST"]
        assert sum(seen.header("idempotency-key") is None for seen in posts) == 6


async def test_a_decision_to_come_back_later_is_not_asked_elsewhere() -> None:
    """503 with Retry-After is an answer."""
    async with (
        peer(answering(503, ("retry-after", "7"))) as one,
        peer(answering(503, ("retry-after", "7"))) as two,
        running([one, two]) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(4):
            assert (await http.ask("GET", "/")).headers["retry-after"] == "7"
        assert len(one.seen) + len(two.seen) == 4


async def test_the_budget_ends_second_tries_and_the_first_answer_is_passed_on() -> None:
    """Two tokens and nothing earned: two requests are saved, the others see the 503."""
    budget = Budget(share=0.0, min_per_s=0.0, burst=2.0)
    async with (
        peer(answering(503)) as sick,
        peer() as well,
        running([sick, well], retries=Retries(budget=budget), outlier=None) as gateway,
        client(gateway.port) as http,
    ):
        statuses = [(await http.ask("GET", "/")).status for _ in range(8)]
        assert Counter(statuses) == {200: 6, 503: 2}
        assert gateway.metric("gateway_events_total", kind="retry") == 2
        assert gateway.metric("gateway_events_total", kind="retry_budget_empty") == 2
        assert len(sick.seen) + len(well.seen) == 8 + 2


async def test_never_more_tries_than_allowed() -> None:
    """Four sick endpoints and two second tries: three are asked, the client gets the last one."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(answering(503))) for _ in range(4)]
        retries = Retries(limit=2)
        gateway = await stack.enter_async_context(running(peers, retries=retries, outlier=None))
        http = await stack.enter_async_context(client(gateway.port))
        assert (await http.ask("GET", "/")).status == 503
        assert sorted(len(one.seen) for one in peers) == [0, 1, 1, 1]


async def test_all_endpoints_ejected_but_the_share_holds() -> None:
    """All fail: two of four go, the other two stay, whatever happens."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(answering(502))) for _ in range(4)]
        outlier = OutlierPolicy(consecutive=1, base_ejection_s=300.0, max_ejection_s=300.0)
        gateway = await stack.enter_async_context(
            running(peers, outlier=outlier, retries=Retries(limit=0))
        )
        http = await stack.enter_async_context(client(gateway.port))
        for _ in range(12):
            await http.ask("GET", "/")
        labels = [f"app/127.0.0.1:{one.port}" for one in peers]
        able = [gateway.metric("gateway_endpoint_available", endpoint=one) for one in labels]
        assert sum(able) == 2.0


async def test_a_late_read_is_sent_twice_and_a_post_is_not() -> None:
    """Once the p95 is known, a GET to the endpoint that hangs is answered by the other."""
    hedge = HedgePolicy(min_samples=20, min_delay_s=0.02, budget=Budget(burst=50.0))
    hanging = False

    async def sometimes(seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        return await (hang if hanging and seen.method == "GET" else echo)(seen, r, w)

    async with (
        peer(sometimes) as one,
        peer() as two,
        running([one, two], hedge=hedge, outlier=None) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(40):
            assert (await http.ask("GET", "/")).status == 200
        group = gateway.gateway.group("app")
        await until(lambda: group.hedge_delay_s is not None)
        hanging = True
        for _ in range(6):
            assert (await http.ask("GET", "/")).status == 200
        assert gateway.metric("gateway_events_total", kind="hedge_won") >= 2
        before = len(one.seen) + len(two.seen)
        for _ in range(6):
            assert (await http.ask("POST", "/", b"{}")).status == 200
        assert len(one.seen) + len(two.seen) == before + 6


async def test_endpoints_are_replaced_without_cutting_an_answer() -> None:
    """U2: what runs ends where it is; what comes goes to the new one; the old one is let go."""
    may_go = asyncio.Event()

    async def slow(seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        await may_go.wait()
        return await echo(seen, r, w)

    async with (
        peer(slow) as old,
        peer() as new,
        running([old]) as gateway,
        client(gateway.port) as http,
        client(gateway.port) as other,
    ):
        running_one = asyncio.create_task(http.ask("GET", "/running"))
        await until(lambda: len(old.seen) == 1)
        group = gateway.gateway.group("app")
        group.update(Upstream("app", (Endpoint("127.0.0.1", new.port),)))
        assert (await other.ask("GET", "/new")).status == 200
        may_go.set()
        assert (await running_one).status == 200
        assert [seen.target for seen in new.seen] == ["/new"]
        await until(lambda: group.connections == 1)


async def test_a_returned_endpoint_gets_its_share_little_by_little() -> None:
    """Ejected for a moment, then back at a tenth of its weight: far fewer than its even share."""
    outlier = OutlierPolicy(consecutive=1, base_ejection_s=0.05, max_ejection_s=0.05)
    failing = True

    async def first_bad(seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        return await (answering(502) if failing else echo)(seen, r, w)

    async with (
        peer(first_bad) as back,
        peer() as steady,
        running([back, steady], outlier=outlier, slow_start_s=600.0) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(2):
            assert (await http.ask("GET", "/")).status == 200
        failing = False
        label = f"app/127.0.0.1:{back.port}"
        await until(lambda: gateway.metric("gateway_endpoint_available", endpoint=label) == 1.0)
        back.seen.clear()
        for _ in range(44):
            assert (await http.ask("GET", "/")).status == 200
        assert 2 <= len(back.seen) <= 6


async def test_a_dead_peer_is_passed_over_before_it_is_judged() -> None:
    """One refusal, and for a moment nobody asks there; nobody notices."""
    async with peer() as well, running([Peer(port=1), well]) as gateway:
        async with client(gateway.port) as http:
            for _ in range(6):
                assert (await http.ask("POST", "/", b"{}")).status == 200
        assert len(well.seen) == 6
