"""Shoppers: they log in, look at products, buy, and read what they bought, through one door.

Every request for an order carries its visit's idempotency key and is repeated with the same key
until its outcome is known or the time for it runs out. A visit marked `sent_twice` sends two
copies at once. A read of an own order carries the consistency token of the write; an answer
older than the write (404) is counted as `stale_own_read` and is a broken promise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import aiohttp

from month1_caching_gateway.client import asked_wait_s
from month6_capstone.load.client_log import Attempt, ClientLog, Outcome, body_sha
from month6_capstone.load.measure import Measurements
from month6_capstone.load.plan import Visit
from scalelab.clock import Clock
from scalelab.errors import Unavailable

_REFUSED_FOR_GOOD = frozenset({400, 401, 403, 404, 413, 422})
_OBEYED_AT_MOST_S = 60.0
_UNASKED_WAIT_S = 0.5
"""How long a shopper stays away who was not told for how long."""


@dataclass(frozen=True, slots=True)
class Shopper:
    """A registered customer: who they are and the bearer token they hold."""

    user_id: str
    token: str


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Times in seconds. patience_s: how long a visit repeats an order whose outcome is open."""

    base_url: str
    request_timeout_s: float = 5.0
    patience_s: float = 60.0
    backoff_s: float = 0.2
    connections_max: int = 200


@dataclass(frozen=True, slots=True)
class Placed:
    """A known answer to one copy of an order request."""

    order_id: str | None
    consistency_token: str | None
    status: int


class Shop:
    """The front door as a customer's program sees it. Async context manager."""

    def __init__(
        self, settings: LoadSettings, log: ClientLog, measured: Measurements, clock: Clock
    ) -> None:
        self._settings = settings
        self._log = log
        self._measured = measured
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Shop:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.request_timeout_s),
            connector=aiohttp.TCPConnector(limit=self._settings.connections_max),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "enter the shop first"
        return self._session

    async def log_in(self, email: str, password: str) -> str:
        """The bearer token of a registered customer. Raises Unavailable with the shop's answer."""
        url = f"{self._settings.base_url}/api/v1/auth/login"
        async with self.session.post(url, json={"email": email, "password": password}) as answer:
            document = await answer.json(content_type=None)
            if answer.status != 200:
                raise Unavailable(f"{email} could not log in: {answer.status} {document}")
            return str(document["access_token"])

    async def look_at(self, product_id: str) -> None:
        """Open one product page and count whether a cache answered."""
        started_s = self._clock.monotonic_s()
        try:
            url = f"{self._settings.base_url}/api/v1/products/{product_id}"
            async with self.session.get(url) as answer:
                await answer.read()
                self._measured.count(f"cache.{answer.headers.get('X-Cache', 'none')}")
                self._measured.count(f"browse.{answer.status}")
        except (aiohttp.ClientError, TimeoutError):
            self._measured.count("browse.no_answer")
        self._measured.latency("browse", (self._clock.monotonic_s() - started_s) * 1000)

    async def order(self, shopper: Shopper, visit: Visit, due_s: float) -> Placed:
        """Place the visit's order, repeating with the same key until the outcome is known."""
        body = json.dumps(
            {
                "lines": [{"product_id": p, "quantity": q} for p, q in visit.lines],
                "card_token": visit.card_token,
            },
            separators=(",", ":"),
        ).encode()
        give_up_s = due_s + self._settings.patience_s
        attempt = 0
        while True:
            attempt += 1
            placed, retry_after_s = await self._attempt(shopper, visit, body, attempt)
            if attempt == 1:
                self._measured.latency("checkout", (self._clock.monotonic_s() - due_s) * 1000)
            over = self._clock.monotonic_s() > give_up_s
            if placed.status in _REFUSED_FOR_GOOD or placed.order_id or over:
                return placed
            if placed.status == 409 and retry_after_s is None:
                return placed
            self._measured.count("checkout.retries")
            await asyncio.sleep(retry_after_s or self._settings.backoff_s)

    async def _attempt(
        self, shopper: Shopper, visit: Visit, body: bytes, attempt: int
    ) -> tuple[Placed, float | None]:
        headers = {
            "Authorization": f"Bearer {shopper.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": visit.key,
        }
        status: int | None = None
        placed = Placed(None, None, 0)
        retry_after_s: float | None = None
        outcome: Outcome = "unknown"
        try:
            async with self.session.post(
                f"{self._settings.base_url}/api/v1/orders", data=body, headers=headers
            ) as answer:
                document = await answer.json(content_type=None)
                status = answer.status
                token = answer.headers.get("X-Consistency-Token")
                order_id = document.get("order_id") if status == 202 else None
                placed = Placed(order_id, token, status)
                names = {name.lower(): value for name, value in answer.headers.items()}
                asked_s = asked_wait_s(names, now=self._clock.now(), at_most_s=_OBEYED_AT_MOST_S)
                outcome, retry_after_s = _judge(status, document.get("code"), asked_s)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self._measured.count("checkout.no_answer")
        if status is not None:
            self._measured.count(f"checkout.{status}")
        self._log.write(
            Attempt(
                at=self._clock.now().isoformat(),
                user_id=shopper.user_id,
                key=visit.key,
                attempt=attempt,
                outcome=outcome,
                status=status,
                order_id=placed.order_id,
                body_sha=body_sha(body),
            )
        )
        return placed, retry_after_s

    async def read_own(self, shopper: Shopper, placed: Placed) -> None:
        """Read the order just placed, with its token; count who answered, and a late answer."""
        headers = {"Authorization": f"Bearer {shopper.token}"}
        if placed.consistency_token:
            headers["X-Consistency-Token"] = placed.consistency_token
        try:
            async with self.session.get(
                f"{self._settings.base_url}/api/v1/orders/{placed.order_id}", headers=headers
            ) as answer:
                await answer.read()
                if answer.status == 404:
                    self._measured.count("stale_own_read")
                shard = answer.headers.get("X-Shard", "none")
                role = answer.headers.get("X-DB-Role", "none")
                self._measured.count(f"reads.{shard}.{role}")
        except (aiohttp.ClientError, TimeoutError):
            self._measured.count("reads.no_answer")

    async def browse(self, visit: Visit) -> None:
        """Look at the visit's pages, one after the other."""
        for page in visit.pages:
            await self.look_at(page)

    async def buy(self, shopper: Shopper, visit: Visit, due_s: float) -> None:
        """Place the visit's order (twice at once where the plan says so) and read it back."""
        copies = 2 if visit.sent_twice else 1
        placed = await asyncio.gather(*[self.order(shopper, visit, due_s) for _ in range(copies)])
        for answer in placed:
            if answer.order_id:
                await self.read_own(shopper, answer)


def _judge(status: int, code: object, asked_s: float | None) -> tuple[Outcome, float | None]:
    """What an answer means: the outcome, and seconds to wait before asking again, if at all.

    A 5xx is unknown, not refused: a gateway that lost its upstream cannot know what it did.
    """
    wait_s = _UNASKED_WAIT_S if asked_s is None else asked_s
    if status == 202:
        return "accepted", None
    if status == 429 or status >= 500 or code == "idempotency_in_flight":
        return "unknown", wait_s
    return "refused", None


async def run(
    shop: Shop, shoppers: Sequence[Shopper], visits: Sequence[Visit], clock: Clock
) -> None:
    """Send every visit at its planned time, however slow the answers are; wait for all."""
    start_s = clock.monotonic_s()
    async with asyncio.TaskGroup() as group:
        for visit in visits:
            wait_s = start_s + visit.at_s - clock.monotonic_s()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            due_s = start_s + visit.at_s
            group.create_task(shop.browse(visit))
            group.create_task(shop.buy(shoppers[visit.user % len(shoppers)], visit, due_s))
