"""The two use cases on a real PostgreSQL and a provider over HTTP, step by step and cut short."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from month3_messaging.broker import Event
from month6_capstone.payments import postgres as store
from month6_capstone.payments.capture import capture
from month6_capstone.payments.desk import Desk
from month6_capstone.payments.provider import CHARGES_THEN_HANGS, DECLINED, PAYS
from month6_capstone.payments.provider_client import ProviderClient
from month6_capstone.payments.refund import give_back, recheck
from scalelab.clients.http import HttpClient
from scalelab.clients.postgres import Database
from scalelab.clock import ManualClock
from scalelab.errors import CorruptData, OutcomeUnknown, ScalelabError, Unavailable
from tests.integration.month6.payments.running_provider import RunningProvider
from tests.integration.month6.payments.waiting import someone_waits


@pytest.fixture
def desk(database: Database, provider_client: ProviderClient, clock: ManualClock) -> Desk:
    return Desk(database, provider_client, clock, recheck_s=120)


@pytest.fixture
def impatient(database: Database, impatient_client: ProviderClient, clock: ManualClock) -> Desk:
    return Desk(database, impatient_client, clock)


def placed(order_id: UUID, clock: ManualClock, card: str = PAYS, /, **changed: Any) -> Event:
    data: dict[str, Any] = {
        "order_id": str(order_id),
        "total_minor": 1250,
        "currency": "EUR",
        "card_token": card,
        "user_id": "ada",
    }
    return event("orders.order.placed.v1", order_id, clock, data | changed)


def cancelled(order_id: UUID, clock: ManualClock) -> Event:
    data = {"order_id": str(order_id), "hold_id": str(uuid4()), "reason": "payment_timed_out"}
    return event("orders.order.cancelled.v1", order_id, clock, data)


def event(kind: str, order_id: UUID, clock: ManualClock, data: dict[str, Any]) -> Event:
    return Event(uuid4(), kind, "/orders", str(order_id), clock.now(), data)


async def answers(database: Database) -> list[tuple[str, dict[str, Any]]]:
    async with database.autocommit() as conn:
        cursor = await conn.execute("SELECT type, value FROM outbox ORDER BY id")
        return [(kind.split(".")[2], value) for kind, value in await cursor.fetchall()]


async def status(database: Database, order_id: UUID) -> str | None:
    async with database.autocommit() as conn:
        cursor = await conn.execute("SELECT status FROM payment WHERE order_id = %s", (order_id,))
        row = await cursor.fetchone()
    return row[0] if row else None


async def ledger(database: Database) -> Counter[str]:
    """Entries by kind; also checks that all postings cancel out."""
    async with database.autocommit() as conn:
        cursor = await conn.execute("SELECT coalesce(sum(amount_minor), 0) FROM ledger_posting")
        total = await cursor.fetchone()
        assert total == (0,)
        cursor = await conn.execute("SELECT kind FROM ledger_entry")
        return Counter(kind for (kind,) in await cursor.fetchall())


def book(provider: RunningProvider) -> Counter[str]:
    return Counter(line["kind"] for line in provider.lines())


async def test_a_placed_order_is_captured_once(
    desk: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """Redelivered, and delivered five times at once: one charge, one entry, one answer."""
    order_id = uuid4()
    fact = placed(order_id, clock)
    await asyncio.gather(*(capture(desk, fact) for _ in range(5)))
    await capture(desk, fact)
    [(kind, answer)] = await answers(desk.database)
    assert kind == "captured"
    assert (answer["order_id"], answer["amount_minor"]) == (str(order_id), 1250)
    assert await ledger(desk.database) == {"capture": 1}
    assert book(provider) == {"charge": 1}


@pytest.mark.parametrize(
    ("card", "reason"), [(DECLINED, "card_declined"), ("tok_nobody", "card_invalid")]
)
async def test_a_refused_card_fails_the_payment(
    desk: Desk, clock: ManualClock, card: str, reason: str
) -> None:
    """Both a decline and an unknown card are answered, not retried for ever."""
    order_id = uuid4()
    await capture(desk, placed(order_id, clock, card))
    [(kind, answer)] = await answers(desk.database)
    assert (kind, answer["reason"]) == ("failed", reason)
    assert await status(desk.database, order_id) == "failed"
    assert await ledger(desk.database) == {}


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(
    desk: Desk, impatient: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """The charge happened, its answer did not come: the next delivery books the same charge."""
    order_id = uuid4()
    fact = placed(order_id, clock, CHARGES_THEN_HANGS)
    with pytest.raises(OutcomeUnknown):
        await capture(impatient, fact)
    assert await answers(desk.database) == []
    await capture(desk, fact)
    assert [kind for kind, _ in await answers(desk.database)] == ["captured"]
    assert book(provider) == {"charge": 1}


async def test_a_cancelled_order_is_refunded_once(
    desk: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """Captured, then cancelled three times over."""
    order_id = uuid4()
    await capture(desk, placed(order_id, clock))
    fact = cancelled(order_id, clock)
    await asyncio.gather(*(give_back(desk, fact) for _ in range(3)))
    assert [kind for kind, _ in await answers(desk.database)] == ["captured", "refunded"]
    assert await ledger(desk.database) == {"capture": 1, "refund": 1}
    assert book(provider) == {"charge": 1, "refund": 1}


async def test_a_cancellation_that_comes_first_leaves_a_tombstone(
    desk: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """Nothing was captured: payments says so, and a later `placed` takes nothing."""
    order_id = uuid4()
    await give_back(desk, cancelled(order_id, clock))
    await capture(desk, placed(order_id, clock))
    [(kind, answer), (again, _)] = await answers(desk.database)
    assert (kind, answer["reason"], again) == ("failed", "cancelled", "failed")
    assert await status(desk.database, order_id) == "cancelled"
    assert book(provider) == {}


async def test_a_charge_without_an_answer_is_found_and_refunded_by_the_cancellation(
    desk: Desk, impatient: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """The capture never came back from the provider: its charge still goes back, booked."""
    order_id = uuid4()
    with pytest.raises(OutcomeUnknown):
        await capture(impatient, placed(order_id, clock, CHARGES_THEN_HANGS))
    await give_back(desk, cancelled(order_id, clock))
    assert [kind for kind, _ in await answers(desk.database)] == ["refunded"]
    assert await status(desk.database, order_id) == "refunded"
    assert await ledger(desk.database) == {"capture": 1, "refund": 1}
    assert book(provider) == {"charge": 1, "refund": 1}


async def test_a_capture_that_a_cancellation_overtakes_gives_the_money_back(
    database: Database, provider: RunningProvider, clock: ManualClock
) -> None:
    """The tombstone is written between the charge and its transaction."""
    order_id = uuid4()

    class Overtaken(ProviderClient):
        async def charge(self, order_id: UUID, money: Any, card_token: str) -> Any:
            # The cancellation runs before the charge exists: it finds nothing to refund.
            await give_back(desk, cancelled(order_id, clock))
            return await super().charge(order_id, money, card_token)

    async with HttpClient(provider.url) as http:
        desk = Desk(database, Overtaken(http), clock)
        await capture(desk, placed(order_id, clock))
    assert [kind for kind, _ in await answers(database)] == ["failed", "refunded"]
    assert await ledger(database) == {"capture": 1, "refund": 1}
    assert book(provider) == {"charge": 1, "refund": 1}


async def test_a_tombstone_is_rechecked_for_a_late_charge(
    desk: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """A charge that lands after the cancellation looked, and that nobody retries, goes back."""
    order_id, quiet = uuid4(), uuid4()
    for each in (order_id, quiet):
        await give_back(desk, cancelled(each, clock))
    async with HttpClient(provider.url) as http:
        body = {"order_id": str(order_id), "amount_minor": 99, "currency": "EUR"}
        headers = {"Idempotency-Key": str(order_id)}
        await http.post("/v1/charges", {**body, "card_token": PAYS}, headers=headers)
    assert await recheck(desk) == 0
    clock.advance(120)
    assert await recheck(desk) == 1
    assert await recheck(desk) == 0
    assert await status(desk.database, order_id) == "refunded"
    assert await status(desk.database, quiet) == "cancelled"
    assert book(provider) == {"charge": 1, "refund": 1}


class ServerDied(Exception):
    """Stands for kill -9 between two steps."""


@pytest.mark.parametrize("step", ["charge", "refund"])
async def test_a_crash_after_the_provider_answered_is_repaired_by_the_next_delivery(
    database: Database, provider: RunningProvider, clock: ManualClock, step: str
) -> None:
    """Nothing was written; the redelivered event meets the same charge or refund."""
    order_id = uuid4()

    class Dying(ProviderClient):
        async def charge(self, order_id: UUID, money: Any, card_token: str) -> Any:
            answer = await super().charge(order_id, money, card_token)
            if step == "charge":
                raise ServerDied
            return answer

        async def refund(self, order_id: UUID, charge_id: str) -> None:
            await super().refund(order_id, charge_id)
            if step == "refund":
                raise ServerDied

    facts = [placed(order_id, clock), cancelled(order_id, clock)]
    async with HttpClient(provider.url) as http:
        dying = Desk(database, Dying(http), clock)
        healthy = Desk(database, ProviderClient(http), clock)
        for handle, fact in zip((capture, give_back), facts, strict=True):
            if (step, handle) in (("charge", capture), ("refund", give_back)):
                with pytest.raises(ServerDied):
                    await handle(dying, fact)
            await handle(healthy, fact)
    assert [kind for kind, _ in await answers(database)] == ["captured", "refunded"]
    assert await ledger(database) == {"capture": 1, "refund": 1}
    assert book(provider) == {"charge": 1, "refund": 1}


async def test_without_a_provider_nothing_is_written(
    database: Database, clock: ManualClock
) -> None:
    """The event goes back to be delivered again; a tombstone is kept all the same."""
    order_id = uuid4()
    async with HttpClient("http://127.0.0.1:9", timeout_s=0.5) as http:
        desk = Desk(database, ProviderClient(http), clock)
        with pytest.raises(Unavailable):
            await capture(desk, placed(order_id, clock))
        assert await status(database, order_id) is None
        with pytest.raises(Unavailable):
            await give_back(desk, cancelled(order_id, clock))
    assert await status(database, order_id) == "cancelled"
    assert await answers(database) == []


@pytest.mark.parametrize(
    "changed", [{"total_minor": 0}, {"total_minor": "5"}, {"currency": "e"}, {"order_id": "x"}]
)
async def test_a_malformed_event_is_poison(
    desk: Desk, clock: ManualClock, changed: dict[str, Any]
) -> None:
    """CorruptData, so that it is set aside at once; the card token is not in the message."""
    with pytest.raises(CorruptData) as error:
        await capture(desk, placed(uuid4(), clock, **changed))
    assert PAYS not in str(error.value)


async def test_the_ledger_refuses_what_does_not_balance(database: Database) -> None:
    """L1, L2 as constraints: unbalanced, empty, second capture, changed or deleted entries."""
    order_id = str(uuid4())
    prepare = (
        f"INSERT INTO payment VALUES ('{order_id}', gen_random_uuid(), 'captured', 5, 'EUR',"
        " 'ch', NULL, NULL, now(), now());"
        "INSERT INTO ledger_entry VALUES ('{entry}', '{order}', 'capture', 'EUR', now());"
    )
    good = "INSERT INTO ledger_posting VALUES ('{entry}', 'a', 5), ('{entry}', 'b', -5);"
    bad = {
        "unbalanced": "INSERT INTO ledger_posting VALUES ('{entry}', 'a', 5), ('{entry}', 'b', -4)",
        "one posting": "INSERT INTO ledger_posting VALUES ('{entry}', 'a', 5)",
        "empty": "SELECT 1",
        "second": good
        + "INSERT INTO ledger_entry VALUES (gen_random_uuid(), '{order}', 'capture', 'EUR', now())",
        "changed": good + "UPDATE ledger_posting SET amount_minor = 1",
        "deleted": good + "DELETE FROM ledger_posting",
    }
    for statements in bad.values():
        entry = str(uuid4())
        sql = (prepare + statements).replace("{entry}", entry).replace("{order}", order_id)
        with pytest.raises(ScalelabError) as refusal:
            async with database.transaction() as conn:
                await conn.execute(sql.encode())
        assert isinstance(refusal.value.__cause__, psycopg.errors.IntegrityError)
    assert await ledger(database) == {}


async def test_a_capture_waits_for_a_cancellation_that_is_being_written(
    desk: Desk, provider: RunningProvider, clock: ManualClock
) -> None:
    """The tombstone is uncommitted when the charge is to be booked: it still wins."""
    order_id = uuid4()
    async with desk.database.transaction() as conn:
        await store.entomb(conn, order_id, now=clock.now(), recheck_at=clock.now())
        capturing = asyncio.create_task(capture(desk, placed(order_id, clock)))
        await someone_waits(desk.database)
    await capturing
    assert await status(desk.database, order_id) == "refunded"
    assert await ledger(desk.database) == {"capture": 1, "refund": 1}
    assert book(provider) == {"charge": 1, "refund": 1}
