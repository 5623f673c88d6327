"""A customer for end-to-end tests: plain HTTP through the front door, one call a verb."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx

from month6_capstone.demo.figures import open_work
from month6_capstone.demo.run import truth_settings
from month6_capstone.load import PAYING_CARD
from month6_capstone.stack import Shop
from month6_capstone.topology import DEMO_PASSWORD, demo_emails
from month6_capstone.truth import reconcile
from scalelab.lab.verify import Report

PATIENCE_S = 90.0
LINES = [{"product_id": "p-0001", "quantity": 1}]


def wait_until(claim: str, holds: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Poll until `holds()`; fail with `claim` when patience runs out. Not a speed assertion."""
    give_up_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < give_up_s, f"still not so after {patience_s} s: {claim}"
        time.sleep(0.1)


def settled_report(shop: Shop, client_log: Path | None = None) -> Report:
    """The verdict over all stores once the shop is quiet; the last one if it never balances."""
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        if open_work(shop.addresses) == 0 or time.monotonic() > give_up_s:
            report = reconcile(truth_settings(shop, client_log))
            if report.balanced or time.monotonic() > give_up_s:
                return report
        time.sleep(0.5)


class FrontDoor(Protocol):
    """Any running shop: native, in one process, or in containers."""

    @property
    def url(self) -> str:
        """Base address of the front door."""
        ...


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody with a token. Every call is one request; nothing is retried here."""

    url: str
    token: str

    @classmethod
    def signed_in(cls, shop: FrontDoor, number: int) -> Customer:
        """The seeded customer of that number."""
        email = demo_emails(number + 1)[number]
        answer = httpx.post(
            f"{shop.url}/api/v1/auth/login", json={"email": email, "password": DEMO_PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        return cls(shop.url, answer.json()["access_token"])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def place(
        self,
        *,
        key: str | None = None,
        lines: list[dict[str, Any]] | None = None,
        card_token: str = PAYING_CARD,
        body: Any = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """POST /api/v1/orders. `body` or `content` replace the whole body; key "" sends none."""
        sent = {**self.headers, **(headers or {})}
        key = f"e2e-{uuid4()}" if key is None else key
        if key:
            sent["Idempotency-Key"] = key
        url = f"{self.url}/api/v1/orders"
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
            return httpx.post(url, content=content, headers=sent, timeout=20)
        wanted = {"lines": LINES if lines is None else lines, "card_token": card_token}
        return httpx.post(url, json=wanted if body is None else body, headers=sent, timeout=20)

    def read(self, order_id: str, token: str | None = None) -> httpx.Response:
        """GET the order, with a consistency token if given."""
        extra = {"X-Consistency-Token": token} if token else {}
        return httpx.get(
            f"{self.url}/api/v1/orders/{order_id}", headers={**self.headers, **extra}, timeout=20
        )

    def status(self, order_id: str) -> str:
        """The order's status now, or "" while it cannot be read."""
        answer = self.read(order_id)
        return answer.json()["status"] if answer.status_code == 200 else ""

    def wait_for(self, order_id: str, status: str) -> None:
        """Until the order has that status."""
        wait_until(f"{order_id} is {status}", lambda: self.status(order_id) == status)
