"""The order path through the front door of a real shop."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import psycopg

from month6_capstone.load import DECLINED_CARD, SLOW_CARD
from month6_capstone.stack import Shop
from scalelab.ids import slot_of
from scalelab.lab.servers import Postgres
from tests.e2e.customer import Customer, settled_report, wait_until


def test_an_order_is_paid_reserved_and_confirmed(shop: Shop, customer: Customer) -> None:
    """202 with Location and a token; the stream tells every status once, in order."""
    placed = customer.place()
    assert placed.status_code == 202, placed.text
    order_id = placed.json()["order_id"]
    assert placed.headers["Location"] == f"/api/v1/orders/{order_id}"
    assert 0 <= slot_of(UUID(order_id)) < 256
    customer.wait_for(order_id, "confirmed")
    statuses: list[str] = []
    with httpx.stream(
        "GET", f"{shop.url}/api/v1/orders/{order_id}/events", headers=customer.headers, timeout=20
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                statuses.append(json.loads(line[5:])["status"])
            if statuses and statuses[-1] == "confirmed":
                break
    assert statuses == ["pending", "paid", "stock_reserved", "confirmed"]


def test_the_owner_reads_what_was_written(customer: Customer) -> None:
    """With the token of the write, the very next read finds it, whichever server answers."""
    for _ in range(20):
        placed = customer.place()
        read = customer.read(placed.json()["order_id"], placed.headers["X-Consistency-Token"])
        assert read.status_code == 200, read.text
        assert read.headers["X-DB-Role"] in {"primary", "replica"}
        assert read.headers["X-Shard"] in {"shard-0", "shard-1"}


def test_copies_of_one_request_make_one_order(shop: Shop, customer: Customer) -> None:
    """16 racing copies: each is told the one order, or that a copy is in flight."""
    key = f"race-{uuid4()}"
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(customer.place, key=key) for _ in range(16)]
    told = [answer.result() for answer in answers]
    assert {answer.status_code for answer in told} <= {202, 409}
    ids = {answer.json()["order_id"] for answer in told if answer.status_code == 202}
    assert len(ids) == 1
    refused = [answer for answer in told if answer.status_code == 409]
    assert {answer.json()["code"] for answer in refused} <= {"idempotency_in_flight"}
    again = customer.place(key=key)
    assert again.json()["order_id"] in ids


def test_a_key_does_not_serve_another_request(customer: Customer) -> None:
    """The same key with another body is refused and places nothing."""
    key = f"reuse-{uuid4()}"
    assert customer.place(key=key).status_code == 202
    other = customer.place(key=key, lines=[{"product_id": "p-0002", "quantity": 1}])
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_one_customer_key_is_not_anothers(customer: Customer, other_customer: Customer) -> None:
    """Keys belong to their user: the same word gives two orders, and no answer leaks."""
    key = f"shared-{uuid4()}"
    mine, theirs = customer.place(key=key), other_customer.place(key=key)
    assert mine.status_code == theirs.status_code == 202
    assert mine.json()["order_id"] != theirs.json()["order_id"]


def test_a_declined_card_ends_the_order_and_frees_the_stock(shop: Shop, customer: Customer) -> None:
    """payment_failed; the hold of the order is released."""
    order_id = customer.place(card_token=DECLINED_CARD).json()["order_id"]
    customer.wait_for(order_id, "payment_failed")

    def released() -> bool:
        with psycopg.connect(shop.addresses.dsns["inventory"]) as connection:
            row = connection.execute(
                "SELECT state FROM hold WHERE order_id = %s", (order_id,)
            ).fetchone()
        return row is not None and row[0] == "released"

    wait_until("the hold is released", released)


def test_a_charge_that_answers_too_late_happens_once(shop: Shop, customer: Customer) -> None:
    """The provider charges and stays silent; asking again with the same key charges nothing."""
    order_id = customer.place(card_token=SLOW_CARD).json()["order_id"]
    customer.wait_for(order_id, "confirmed")
    book = [json.loads(line) for line in shop.addresses.book_path.read_text().splitlines()]
    charges = [
        line for line in book if line.get("order_id") == order_id and line["kind"] == "charge"
    ]
    assert len(charges) == 1


def test_one_order_is_one_trace(shop: Shop, customer: Customer) -> None:
    """Gateway, orders, worker, payments and inventory write spans of the same trace."""
    trace_id = uuid4().hex
    parent = f"00-{trace_id}-{'ab' * 8}-01"
    placed = customer.place(headers={"traceparent": parent})
    customer.wait_for(placed.json()["order_id"], "confirmed")
    traces = shop.runtime.root / "traces"
    expected = {"gateway", "orders", "orders-worker", "payments", "inventory"}

    def seen() -> set[str]:
        return {path.stem for path in traces.glob("*.jsonl") if trace_id in path.read_text()}

    wait_until(f"{expected} traced it", lambda: expected <= seen())


def test_the_books_balance_after_all_of_it(shop: Shop, customer: Customer) -> None:
    """Whatever the other tests did, every store tells the same story when the shop is quiet."""
    assert customer.place().status_code == 202
    report = settled_report(shop)
    assert report.balanced, report.violations
    assert report.checked["captured_minus_refunded_is_confirmed"] > 0


def test_a_new_order_is_never_denied_because_a_replica_is_behind(
    shop: Shop, customer: Customer
) -> None:
    """With replay paused on both replicas, a read without any token still finds the order."""
    replicas = [shop.runtime.server(shard.replica_name) for shard in shop.addresses.shards]
    connections = [
        psycopg.connect(server.superuser_dsn(), autocommit=True)
        for server in replicas
        if isinstance(server, Postgres)
    ]
    try:
        for connection in connections:
            connection.execute("SELECT pg_wal_replay_pause()")
        placed = customer.place()
        assert placed.status_code == 202, placed.text
        assert customer.read(placed.json()["order_id"]).status_code == 200
    finally:
        for connection in connections:
            connection.execute("SELECT pg_wal_replay_resume()")
            connection.close()
