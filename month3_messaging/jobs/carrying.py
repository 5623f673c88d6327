"""Carry out one job: number, document, mail, and the books kept in between. Blocking.

    alone [lock] · begin [attempt counted] · issue [number] · keep_pdf · send · mailed [done]

A worker may be killed at any point, and the next one begins at the top: it finds the number and
the document as they are. The one step that cannot be found is `send`: whoever dies between the
server's taking of the mail and `mailed` has it sent once more. So a job that is killed k times
sends at most k + 1 mails, all of one order, number and document, under one message id.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from month3_messaging.jobs.books import Begun, Books, open_books
from month3_messaging.jobs.invoice import Invoice, address_of, order_of
from month3_messaging.jobs.pdf import render
from month3_messaging.jobs.post import PostSettings, mail_of, send
from month3_messaging.jobs.verdicts import Again, AttemptPolicy, Park, exhausted, judge
from scalelab.errors import NotFound, ScalelabError


@dataclass(frozen=True, slots=True)
class Bench:
    """What a job needs. random_unit: uniform in 0..1."""

    dsn: str
    post: PostSettings
    policy: AttemptPolicy
    random_unit: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Mailed:
    """The invoice of that number is with the mail server."""

    number: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """Another copy of the job was carried out or parked before."""


Outcome = Mailed | Nothing | Again | Park


def carry_out(order_id: UUID, bench: Bench, *, retries: int = 0) -> Outcome:
    """One attempt. retries: how often the broker was told to hand the job out later.

    Raises nothing that a retry could mend; what the books could not write down, `Again` says too.
    """
    try:
        with open_books(bench.dsn) as books, books.alone(order_id):
            begun = books.begin(order_id)
            return Nothing() if begun is None else _attempt(order_id, begun, books, bench)
    except NotFound as error:
        return Park(error.stable_code)
    except ScalelabError as error:
        if not error.retryable:
            raise
        # Not counted as an attempt: the books are away, or another worker has the job in hand.
        backoff = bench.policy.backoff
        return Again(backoff.delay_s(retries + 1, bench.random_unit()))


def _attempt(order_id: UUID, begun: Begun, books: Books, bench: Bench) -> Outcome:
    if exhausted(begun.attempt, bench.policy):
        books.park(order_id, "attempts_exhausted", "it never came to an end", "")
        return Park("attempts_exhausted")
    try:
        return Mailed(_invoice(order_id, begun, books, bench.post))
    except Exception as error:  # noqa: BLE001 - judged, and never lost: retried or parked
        verdict = judge(error, begun.attempt, bench.policy, bench.random_unit())
        if isinstance(verdict, Park):
            books.park(order_id, verdict.code, str(error), traceback.format_exc())
        return verdict


def _invoice(order_id: UUID, begun: Begun, books: Books, post: PostSettings) -> int:
    # What cannot become an invoice must not use up a number.
    recipient = address_of(str(begun.content.get("user_id")), post.domain)
    order = order_of(begun.content)
    issued = books.issue(order_id)
    if not issued.mailed:
        invoice = Invoice(issued.number, issued.issued_at, order)
        pdf = books.keep_pdf(order_id, render(invoice))
        send(mail_of(invoice, pdf, recipient, post), post)
    books.mailed(order_id)
    return issued.number
