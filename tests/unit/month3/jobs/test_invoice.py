"""What an invoice says, and what refuses to become one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from month3_messaging.jobs import Invoice, address_of, money, order_of
from month3_messaging.jobs.pdf import render
from month3_messaging.jobs.post import PostSettings, mail_of
from scalelab.errors import CorruptData, InvalidInput

ISSUED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def content(**changes: object) -> dict[str, object]:
    """An order's event, changed."""
    return {
        "order_id": "0198b3f2-0000-7000-8000-000000000001",
        "user_id": "ada",
        "lines": [
            {"product_id": "tea", "quantity": 2, "unit_minor": 350},
            {"product_id": "pot", "quantity": 1, "unit_minor": 2505},
        ],
        "total_minor": 3205,
        "currency": "EUR",
        "placed_at": "2026-02-28T10:00:00+00:00",
    } | changes


def test_lines_and_total_are_the_orders() -> None:
    """Amounts stay in minor units until they are printed."""
    order = order_of(content())
    assert [line.sum_minor for line in order.lines] == [700, 2505]
    assert money(order.total_minor, order.currency) == "32.05 EUR"


@pytest.mark.parametrize(
    "changes",
    [
        {"total_minor": 3204},
        {"lines": []},
        {"lines": [{"product_id": "tea", "quantity": 0, "unit_minor": 1}]},
        {"currency": "euro"},
        {"placed_at": "2026-02-28T10:00:00"},
        {"user_id": ""},
    ],
    ids=["total differs", "no line", "no piece", "no currency", "no zone", "no user"],
)
def test_an_order_that_makes_no_invoice_is_named(changes: dict[str, object]) -> None:
    """With one stable code, whatever is wrong."""
    with pytest.raises(CorruptData) as told:
        order_of(content(**changes))
    assert told.value.stable_code == "invoice_content"


@pytest.mark.parametrize(
    "user", ["", "a b", "a@b", "a\r\nBcc: x", "ä", "-x", "x" * 64, "a,b"], ids=repr
)
def test_nothing_that_could_be_a_second_recipient_becomes_an_address(user: str) -> None:
    """No header, no list, no domain of its own."""
    with pytest.raises(InvalidInput) as told:
        address_of(user, "shop.example")
    assert told.value.stable_code == "no_address"


def test_a_plain_user_has_an_address() -> None:
    """At the shop's domain."""
    assert address_of("ada.l-1", "shop.example") == "ada.l-1@shop.example"


def test_the_same_invoice_is_the_same_document() -> None:
    """Rendered twice, byte for byte, whatever the user is called."""
    invoice = Invoice(42, ISSUED, order_of(content(user_id="łukasz")))
    assert render(invoice) == render(invoice)
    assert render(invoice).startswith(b"%PDF-")


def test_a_mail_sent_again_has_the_same_id() -> None:
    """Made of the order's id, so that a mailbox can know it."""
    invoice = Invoice(42, ISSUED, order_of(content()))
    settings = PostSettings("127.0.0.1", 25)
    mails = [mail_of(invoice, b"%PDF", "ada@shop.example", settings) for _ in range(2)]
    assert {mail["Message-ID"] for mail in mails} == {
        f"<invoice.{invoice.order.order_id}@shop.example>"
    }
    assert [part.get_filename() for part in mails[0].iter_attachments()] == ["INV-000042.pdf"]
