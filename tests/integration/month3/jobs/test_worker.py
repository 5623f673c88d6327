"""A real Celery worker over Redis: one invoice an order, whoever fails or dies."""

from __future__ import annotations

import psycopg
import pytest
from celery.result import AsyncResult

from tests.integration.month3.jobs.conftest import HOLD_AFTER, HOLD_BEFORE, Bed

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def worker(bed: Bed) -> str:
    return bed.start_worker()


def mailed(bed: Bed, order: object) -> list[tuple[str, str, bytes]]:
    """Subject, id and document of each mail of an order."""
    found: list[tuple[str, str, bytes]] = []
    for mail in bed.mail.kept[str(order)]:
        [document] = list(mail.iter_attachments())
        found.append((str(mail["Subject"]), str(mail["Message-ID"]), document.get_content()))
    return found


def test_a_confirmed_order_is_sent_its_invoice(bed: Bed, worker: str) -> None:
    """One mail with the document that is kept under the number; the result says the number."""
    order = bed.confirmed_order()
    bed.send(order)
    row = bed.until_ended(order)
    [(subject, _, document)] = mailed(bed, order)
    assert subject == f"Your invoice INV-{row['number']:06d}"
    assert document == row["pdf"]
    result = AsyncResult[object](str(order), app=bed.app).get(timeout=30)
    assert result == {"state": "mailed", "number": row["number"], "code": None}


def test_a_job_that_is_sent_three_times_mails_once(bed: Bed, worker: str) -> None:
    """The row is the job; further messages find it done."""
    order, after = bed.confirmed_order(), bed.confirmed_order()
    for _ in range(3):
        bed.send(order)
    bed.send(after)
    bed.until_ended(after)
    assert bed.until_ended(order)["attempts"] == 1
    assert len(mailed(bed, order)) == 1


def test_a_mail_server_that_says_later_is_asked_again(bed: Bed, worker: str) -> None:
    """After a back-off, under the same number."""
    order = bed.confirmed_order()
    bed.mail.answers[str(order)] = ["451 later", "421 later"]
    bed.send(order)
    row = bed.until_ended(order)
    assert (row["state"], row["attempts"], len(mailed(bed, order))) == ("done", 3, 1)


def test_a_mail_server_that_always_says_later_parks_the_job(bed: Bed, worker: str) -> None:
    """After as many attempts as are allowed, with the cause; the number is kept for a replay."""
    order = bed.confirmed_order()
    bed.mail.answers[str(order)] = ["451 later"] * 9
    bed.send(order)
    row = bed.until_ended(order)
    assert (row["state"], row["code"], row["attempts"]) == ("parked", "mail_deferred", 3)
    assert row["number"] is not None


def test_a_refused_mail_is_parked_at_once(bed: Bed, worker: str) -> None:
    """No retry mends a 550."""
    order = bed.confirmed_order()
    bed.mail.answers[str(order)] = ["550 no such mailbox"]
    bed.send(order)
    row = bed.until_ended(order)
    assert (row["state"], row["code"], row["attempts"]) == ("parked", "mail_refused", 1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"total_minor": 1}, "invoice_content"), ({"user_id": "a\nb"}, "no_address")],
    ids=["content", "address"],
)
def test_poison_is_parked_with_its_stack_and_uses_no_number(
    bed: Bed, worker: str, changes: dict[str, object], code: str
) -> None:
    """And the next job goes on; numbers have no holes."""
    poison = bed.confirmed_order(**changes)
    bed.send(poison)
    row = bed.until_ended(poison)
    assert (row["state"], row["code"], row["attempts"]) == ("parked", code, 1)
    assert "Traceback" in row["stack"]
    order = bed.confirmed_order()
    bed.send(order)
    bed.until_ended(order)
    with psycopg.connect(bed.dsn) as conn:
        numbers = [row[0] for row in conn.execute("SELECT number FROM invoice ORDER BY number")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_killed_after_the_mail_was_taken_it_mails_once_more_the_same(bed: Bed, worker: str) -> None:
    """The pool process dies before it hears the 250: two mails, one number, one document."""
    order = bed.confirmed_order()
    bed.mail.answers[str(order)] = [HOLD_AFTER]
    bed.send(order)
    bed.until_held(order)
    number = bed.job(order)["number"]
    bed.kill_pool_process(worker)
    row = bed.until_ended(order)
    assert (row["state"], row["attempts"], row["number"]) == ("done", 2, number)
    first, second = mailed(bed, order)
    assert first == second


def test_killed_before_the_mail_was_taken_it_mails_once(bed: Bed, worker: str) -> None:
    """The same kill a moment earlier."""
    order = bed.confirmed_order()
    bed.mail.answers[str(order)] = [HOLD_BEFORE]
    bed.send(order)
    bed.until_held(order)
    bed.kill_pool_process(worker)
    row = bed.until_ended(order)
    assert (row["state"], row["attempts"], len(mailed(bed, order))) == ("done", 2, 1)


def test_a_job_that_kills_its_worker_every_time_is_parked(bed: Bed, worker: str) -> None:
    """The broker would hand it out for ever; the books count its beginnings."""
    order = bed.confirmed_order()
    bed.mail.answers[str(order)] = [HOLD_BEFORE] * 9
    bed.send(order)
    for times in (1, 2, 3):
        bed.until_held(order, times)
        bed.kill_pool_process(worker)
    row = bed.until_ended(order)
    assert (row["state"], row["code"], row["attempts"]) == ("parked", "attempts_exhausted", 4)
    assert bed.mail.held[str(order)] == 3
