"""The client against a real service process that is as sick as it is told to be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from month1_caching_gateway.client import Client, ClientSettings
from scalelab.clients.http import Answer
from scalelab.clock import ManualClock
from scalelab.errors import (
    BreakerOpen,
    InvalidInput,
    OutcomeUnknown,
    RateLimited,
    ScalelabError,
    Unavailable,
)
from scalelab.lab.runtime import ServiceSpec
from scalelab.resilience import (
    BreakerPolicy,
    BudgetPolicy,
    CallRetried,
    GuardEvent,
    Phase,
    RetryPolicy,
    RetryRefused,
)

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

BREAKER = BreakerPolicy(min_calls=4, open_s=1.0, probes=1)
PATIENT = ClientSettings(connect_s=20.0, deadline_s=60.0, try_s=20.0, breaker=BREAKER)


@pytest.fixture(scope="module")
def sick_url(runtime: Runtime) -> str:
    """The address of a running sick service."""
    name = f"sick-{uuid4().hex[:8]}"
    port = runtime.port(name, 0)
    module = "month1_caching_gateway.experiments.sick_service"
    runtime.service(ServiceSpec(name, ("python", "-m", module, str(port)), port=port))
    return f"http://127.0.0.1:{port}"


@dataclass
class Caller:
    """A client whose sleeps pass on its own clock, and what it did."""

    client: Client
    clock: ManualClock
    slept: list[float]
    events: list[GuardEvent]
    url: str
    before: int

    def make(self, status: int, retry_after: str | None = None) -> None:
        """How the service answers from now on."""
        mode: dict[str, Any] = {"status": status, "retry_after": retry_after}
        httpx.put(f"{self.url}/mode", json=mode, timeout=20).raise_for_status()

    @property
    def sent(self) -> int:
        """Calls that reached the service in this test."""
        return _seen(self.url) - self.before

    async def until_sent(self, count: int) -> None:
        """Poll until so many have reached it: a call that was given up may still be on its way."""
        async with asyncio.timeout(20.0):
            while await asyncio.to_thread(_seen, self.url) < self.before + count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert self.sent == count


def _seen(url: str) -> int:
    return sum(httpx.get(f"{url}/seen", timeout=20).json().values())


@asynccontextmanager
async def opened(url: str, settings: ClientSettings = PATIENT) -> AsyncIterator[Caller]:
    clock, slept, events = ManualClock(), list[float](), list[GuardEvent]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    client = Client(
        "sick",
        url,
        settings,
        hooks=[events.append],
        clock=clock,
        sleep=sleep,
        random_unit=lambda: 0.5,
    )
    caller = Caller(client, clock, slept, events, url, _seen(url))
    caller.make(200)
    async with client:
        yield caller


async def test_a_call_that_works_is_one_call(sick_url: str) -> None:
    """The answer comes whole."""
    async with opened(sick_url) as caller:
        answer = await caller.client.request("GET", "/work")
        assert (answer.status, answer.json()) == (200, {"work": 200})
        assert caller.sent == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_it_waits_as_long_as_it_is_told_and_asks_once(sick_url: str, status: int) -> None:
    """A statement opens the breaker at once; the retry comes when the time is over."""
    async with opened(sick_url) as caller:
        caller.make(status, "7")
        with pytest.raises((RateLimited, Unavailable)):
            await caller.client.request("GET", "/work")
        assert caller.slept == [7.0, 7.0]
        assert caller.sent == 3
        assert caller.client.phase is Phase.OPEN


async def test_other_calls_are_not_even_sent_meanwhile(sick_url: str) -> None:
    """Whoever comes before the time is refused here, and told for how long."""
    settings = ClientSettings(connect_s=20.0, deadline_s=5.0, try_s=20.0, breaker=BREAKER)
    async with opened(sick_url, settings) as caller:
        caller.make(429, "30")
        with pytest.raises(RateLimited) as caught:
            await caller.client.request("GET", "/work")
        assert caught.value.retry_after_s == 30.0
        caller.clock.advance(10.0)
        for _ in range(5):
            with pytest.raises(BreakerOpen) as refused:
                await caller.client.request("GET", "/work")
            assert refused.value.retry_after_s == 20.0
        assert caller.sent == 1
        caller.make(200)
        caller.clock.advance(20.0)
        assert (await caller.client.request("GET", "/work")).status == 200
        assert caller.client.phase is Phase.CLOSED


async def test_after_the_time_one_probe_goes_first(sick_url: str) -> None:
    """Ten at once when the time is over: one is sent, nine are refused."""
    settings = ClientSettings(connect_s=20.0, deadline_s=5.0, try_s=20.0, breaker=BREAKER)
    async with opened(sick_url, settings) as caller:
        caller.make(503, "30")
        with pytest.raises(Unavailable):
            await caller.client.request("GET", "/work")
        caller.clock.advance(30.0)
        caller.make(200)
        told = await asyncio.gather(
            *(caller.client.request("GET", "/work") for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(one, BreakerOpen) for one in told) == 9
        assert caller.sent == 2


async def test_a_long_wish_is_bounded(sick_url: str) -> None:
    """Nobody silences a client for a year."""
    settings = ClientSettings(
        connect_s=20.0, deadline_s=5.0, try_s=20.0, obey_at_most_s=60.0, breaker=BREAKER
    )
    async with opened(sick_url, settings) as caller:
        caller.make(429, "Fri, 31 Dec 2100 08:00:00 GMT")
        with pytest.raises(RateLimited) as caught:
            await caller.client.request("GET", "/work")
        assert caught.value.retry_after_s == 60.0


async def test_failures_without_a_wish_open_it_by_their_share(sick_url: str) -> None:
    """Four of four: open; after its own open time one probe."""
    settings = ClientSettings(
        connect_s=20.0, deadline_s=60.0, try_s=20.0, breaker=BREAKER, retry=RetryPolicy(attempts=1)
    )
    async with opened(sick_url, settings) as caller:
        caller.make(500)
        for _ in range(6):
            with pytest.raises((Unavailable, BreakerOpen)):
                await caller.client.request("GET", "/work")
        assert caller.sent == 4
        caller.clock.advance(1.0)
        with pytest.raises(Unavailable):
            await caller.client.request("GET", "/work")
        assert caller.sent == 5


async def test_a_service_that_says_no_is_healthy_and_is_not_asked_again(sick_url: str) -> None:
    """A 4xx is an answer: no retry, no fallback, the breaker stays closed."""
    async with opened(sick_url) as caller:
        caller.make(422)
        for _ in range(6):
            with pytest.raises(InvalidInput):
                await caller.client.request("GET", "/work", fallback=_substitute)
        assert caller.sent == 6
        assert caller.client.phase is Phase.CLOSED


async def _substitute(_error: ScalelabError) -> Answer:
    return Answer(200, {}, b"old news")


async def test_the_fallback_answers_for_a_service_that_failed(sick_url: str) -> None:
    """Failed, or refused because it failed: the caller gets the substitute."""
    settings = ClientSettings(connect_s=20.0, deadline_s=5.0, try_s=20.0, breaker=BREAKER)
    async with opened(sick_url, settings) as caller:
        caller.make(429, "30")
        for _ in range(4):
            answer = await caller.client.request("GET", "/work", fallback=_substitute)
            assert answer.body == b"old news"
        assert caller.sent == 1


async def test_silence_is_repeated_only_where_that_does_no_harm(sick_url: str) -> None:
    """No answer in time: a GET is tried again; a POST is not, unless it carries a key."""
    settings = ClientSettings(
        connect_s=20.0, deadline_s=60.0, try_s=1.0, breaker=None, retry=RetryPolicy(attempts=2)
    )
    async with opened(sick_url, settings) as caller:
        caller.make(0)
        with pytest.raises(Unavailable):
            await caller.client.request("GET", "/work")
        await caller.until_sent(2)
        with pytest.raises(OutcomeUnknown):
            await caller.client.request("POST", "/work")
        await caller.until_sent(3)
        with pytest.raises(OutcomeUnknown):
            await caller.client.request("POST", "/work", headers={"Idempotency-Key": "k"})
        await caller.until_sent(5)


async def test_a_try_that_may_have_landed_is_never_called_undone(sick_url: str) -> None:
    """Silence, then a clear 503: the whole call's outcome is unknown."""
    settings = ClientSettings(
        connect_s=20.0, deadline_s=60.0, try_s=1.0, breaker=None, retry=RetryPolicy(attempts=2)
    )
    async with opened(sick_url, settings) as caller:
        caller.make(0)

        async def heal_a_little(_seconds: float) -> None:
            await asyncio.to_thread(caller.make, 503)

        caller.client._sleep = heal_a_little
        with pytest.raises(OutcomeUnknown):
            await caller.client.request("PUT", "/work", json_body={})


async def test_the_budget_bounds_retries_over_all_calls(sick_url: str) -> None:
    """A reserve of two, nothing earned: two retries, then none."""
    retry = RetryPolicy(attempts=3, budget=BudgetPolicy(ratio=0.0, reserve=2.0))
    settings = ClientSettings(
        connect_s=20.0, deadline_s=60.0, try_s=20.0, breaker=None, retry=retry
    )
    async with opened(sick_url, settings) as caller:
        caller.make(503)
        for _ in range(4):
            with pytest.raises(Unavailable):
                await caller.client.request("GET", "/work")
        assert sum(isinstance(event, CallRetried) for event in caller.events) == 2
        assert sum(isinstance(event, RetryRefused) for event in caller.events) == 3
        assert caller.sent == 6


async def test_nobody_there_is_unavailable_and_opens_it() -> None:
    """Refused connections count as failures."""
    settings = ClientSettings(
        connect_s=20.0,
        deadline_s=60.0,
        try_s=20.0,
        breaker=BREAKER,
        retry=RetryPolicy(attempts=1),
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with Client("nobody", url, settings, clock=ManualClock()) as client:
            for _ in range(4):
                with pytest.raises(Unavailable):
                    await client.request("GET", "/")
            with pytest.raises(BreakerOpen):
                await client.request("GET", "/")
