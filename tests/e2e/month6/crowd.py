"""A crowd of customers who go on ordering and browsing while a test breaks the shop.

Each customer is a thread that places one order after the other and repeats each, with its key,
until it knows the outcome. Every attempt goes into a client log, so that the verdict can compare
what the shop said with what it did; every answer is kept, so that its form can be judged.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self
from uuid import uuid4

import httpx

from month2_databases.sharding import even
from month6_capstone.load import (
    DECLINED_CARD,
    PAYING_CARD,
    SLOW_CARD,
    Attempt,
    ClientLog,
    body_sha,
    product_ids,
)
from month6_capstone.seeding import demo_user_id
from month6_capstone.stack import Shop
from month6_capstone.topology import SHARD_NAMES, demo_emails
from scalelab.hashing import slot_for_key
from tests.e2e.customer import Customer, wait_until

ANSWER_WITHIN_S = 40.0
"""A client's patience with one request: far above the longest time-out of the front door."""
THINK_S = 0.15
RENEW_EVERY_S = 300.0
CARDS = (*[PAYING_CARD] * 17, *[DECLINED_CARD] * 2, SLOW_CARD)


@dataclass(frozen=True, slots=True)
class Buyer:
    """A seeded customer, by number, and the shard that their orders live on."""

    number: int
    user_id: str
    shard: str


class Session:
    """A customer's token, renewed long before it expires; an old one serves until that works."""

    def __init__(self, shop: Shop, buyer: Buyer) -> None:
        self._shop = shop
        self._number = buyer.number
        self._token = Customer.signed_in(shop, buyer.number).token
        self._renew_at_s = time.monotonic() + RENEW_EVERY_S

    @property
    def headers(self) -> dict[str, str]:
        if time.monotonic() > self._renew_at_s:
            with suppress(AssertionError, httpx.HTTPError):
                self._token = Customer.signed_in(self._shop, self._number).token
                self._renew_at_s = time.monotonic() + RENEW_EVERY_S
        return {"Authorization": f"Bearer {self._token}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the front door; status None: none came. order: it was to place one."""

    order: bool
    shard: str
    status: int | None
    media_type: str = ""
    code: str = ""
    retry_after: str = ""
    order_id: str = ""
    trouble: str = ""


def seeded_buyers(count: int) -> list[Buyer]:
    """The first `count` seeded customers."""
    shards = even(SHARD_NAMES)
    users = [demo_user_id(email) for email in demo_emails(count)]
    return [
        Buyer(number, user, shards.shard_of(slot_for_key(user)))
        for number, user in enumerate(users)
    ]


@dataclass(slots=True)
class Crowd:
    """Context manager: the customers order from its beginning to its end.

    At the end they stop ordering, but each goes on asking until its last order's outcome is known.
    """

    shop: Shop
    buyers: Sequence[Buyer]
    log: ClientLog
    products: int
    answers: list[Answer] = field(default_factory=list[Answer])
    _closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor | None = None
    _running: list[Future[None]] = field(default_factory=list[Future[None]])

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(len(self.buyers) + 1, thread_name_prefix="customer")
        self._running = [
            self._pool.submit(self._shop_on, buyer, Session(self.shop, buyer))
            for buyer in self.buyers
        ]
        self._running.append(self._pool.submit(self._look_around, self.buyers[0]))
        wait_until("every shard takes orders", lambda: all(map(self.accepted, SHARD_NAMES)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        assert self._pool is not None
        self._pool.shutdown(wait=True)
        if error is None:
            for one in self._running:
                one.result()

    def accepted(self, shard: str | None = None) -> int:
        """Orders accepted so far, of one shard's customers or of all."""
        with self._lock:
            return sum(
                answer.status == 202 and shard in (None, answer.shard) for answer in self.answers
            )

    def browsed(self) -> int:
        """Pages seen so far."""
        with self._lock:
            return sum(answer.status == 200 for answer in self.answers)

    def asked(self, shard: str) -> int:
        """Answers, of any kind, to orders of one shard's customers."""
        with self._lock:
            return sum(answer.order and answer.shard == shard for answer in self.answers)

    def some_more(self, claim: str, count: Callable[[], int], *, more: int = 5) -> None:
        """Wait until `count()` has grown by `more` from now on."""
        enough = count() + more
        wait_until(claim, lambda: count() >= enough)

    def _shop_on(self, buyer: Buyer, session: Session) -> None:
        ids, number = product_ids(self.products), buyer.number
        with httpx.Client(timeout=ANSWER_WITHIN_S) as client:
            for turn in itertools.count():
                if self._closing.wait(THINK_S):
                    return
                chosen = {ids[(number * 7 + turn * step) % len(ids)] for step in (1, 3)}
                lines = [{"product_id": one, "quantity": 1 + turn % 2} for one in sorted(chosen)]
                card = CARDS[(turn * 3 + number) % len(CARDS)]
                body = json.dumps({"lines": lines, "card_token": card}).encode()
                self._buy(client, buyer, session, body)

    def _buy(self, client: httpx.Client, buyer: Buyer, session: Session, body: bytes) -> None:
        """One order, repeated with its key until it is accepted or refused for good."""
        key = f"crowd-{uuid4()}"
        give_up_s = time.monotonic() + 120.0
        for attempt in itertools.count(1):
            headers = session.headers | {
                "Content-Type": "application/json",
                "Idempotency-Key": key,
            }
            answer = self._ask(client, buyer.shard, headers, body)
            outcome = _outcome(answer)
            line = Attempt(
                at=datetime.now(UTC).isoformat(),
                user_id=buyer.user_id,
                key=key,
                attempt=attempt,
                outcome=outcome,
                status=answer.status,
                order_id=answer.order_id or None,
                body_sha=body_sha(body),
            )
            with self._lock:
                self.answers.append(answer)
                self.log.write(line)
            if outcome != "unknown":
                return
            assert time.monotonic() < give_up_s, f"the outcome of {key} stays unknown: {answer}"
            time.sleep(min(1.0, float(answer.retry_after or 0.3)))

    def _ask(
        self, client: httpx.Client, shard: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        try:
            got = client.post(f"{self.shop.url}/api/v1/orders", content=body, headers=headers)
        except httpx.HTTPError as error:
            return Answer(True, shard, None, trouble=repr(error))
        return _read(got, shard, order=True)

    def _look_around(self, buyer: Buyer) -> None:
        ids = itertools.cycle(product_ids(self.products))
        with httpx.Client(timeout=ANSWER_WITHIN_S) as client:
            while not self._closing.wait(THINK_S):
                try:
                    got = client.get(f"{self.shop.url}/api/v1/products/{next(ids)}")
                    answer = _read(got, buyer.shard, order=False)
                except httpx.HTTPError as error:
                    answer = Answer(False, buyer.shard, None, trouble=repr(error))
                with self._lock:
                    self.answers.append(answer)


def _read(got: httpx.Response, shard: str, *, order: bool) -> Answer:
    document = got.json()
    return Answer(
        order,
        shard,
        got.status_code,
        media_type=got.headers.get("Content-Type", ""),
        code=document.get("code", ""),
        retry_after=got.headers.get("Retry-After", ""),
        order_id=document.get("order_id", "") if got.status_code == 202 else "",
    )


def _outcome(answer: Answer) -> Literal["accepted", "refused", "unknown"]:
    if answer.status == 202:
        return "accepted"
    if answer.status is None or answer.status == 429 or answer.status >= 500:
        return "unknown"
    return "unknown" if answer.code == "idempotency_in_flight" else "refused"


def badly_answered(answers: Sequence[Answer], *, also: Collection[str] = ()) -> Counter[str]:
    """What must not have been said, with how often: empty if the front door kept its word.

    An order is accepted, or put off by a problem document that a program understands: 409 while a
    copy is in flight, 429, 503 or 504. Whoever is told to come back is told when. `also` names
    codes, or "no answer", that the fault of this test may cause beyond that.
    """
    found: Counter[str] = Counter()
    for answer in answers:
        complaint = _complaint(answer, also)
        if complaint:
            found[f"{complaint}: {answer}"] += 1
    return found


_CODES = {409: {"idempotency_in_flight"}, 429: {"rate_limited"}, 504: {"upstream_timeout"}}
_AWAY = {
    "shard_unavailable",
    "database_unavailable",
    "pool_exhausted",
    "outcome_unknown",
    "deadline_exceeded",
    "catalog_unavailable",
    "inventory_unavailable",
    "keys_unavailable",
    "upstream_unavailable",
    "upstream_busy",
    "breaker_open",
    "admission_timeout",
}


def _complaint(answer: Answer, also: Collection[str]) -> str:
    if answer.status is None:
        return "" if "no answer" in also else "no answer"
    if answer.status == (202 if answer.order else 200):
        fine = answer.media_type == "application/json" and bool(answer.order_id) == answer.order
        return "" if fine else "a success without its document"
    if answer.media_type != "application/problem+json":
        return "no problem document"
    if answer.status in (429, 503) and not answer.retry_after.isdigit():
        return "no Retry-After"
    known = _AWAY if answer.status == 503 else _CODES.get(answer.status, set[str]())
    return "" if answer.code in known or answer.code in also else "not an answer of this door"
