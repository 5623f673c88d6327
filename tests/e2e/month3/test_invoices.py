"""The background jobs in the month's stack: a confirmed order ends as an invoice in a mail."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from month3_messaging.orderload import Placed
from month3_messaging.stack import Stack
from scalelab.clients.http import HttpClient
from scalelab.lab.cli.outcome import CommandFailed
from tests.e2e.month3.crowd import WITHIN_S, carry_out, told
from tests.fixtures.tiers import Count
from tests.integration.month3.messaging_bed import poll_until

pytestmark = pytest.mark.timeout(400)

ALL = ("invoices", "--last", "1000")


async def mailed(root: Path, placed: Placed) -> list[dict[str, Any]]:
    """The invoices of these orders, once each confirmed one's mail has come and no job waits."""
    confirmed = {one for one, end in placed.ends.items() if end == "confirmed"}
    found: list[dict[str, Any]] = []

    async def all_are() -> bool:
        try:
            shown = await asyncio.to_thread(told, root, *ALL)
        except CommandFailed:
            return False  # one of those that were killed is not back yet
        found[:] = [one for one in shown["invoices"] if one["order_id"] in placed.accepted]
        done = {one["order_id"] for one in found if one["mails"] and one["state"] == "done"}
        return confirmed <= done

    # A killed worker's jobs are handed out again after the visibility time-out, half a minute.
    await poll_until(all_are, "every confirmed order has its mail", within_s=WITHIN_S)
    assert {one["order_id"] for one in found} == confirmed
    return found


async def test_a_confirmed_order_is_sent_its_invoice(
    stack: Stack, http: HttpClient, lab_root: Path, count: Count
) -> None:
    """One number each, in a row without holes over all orders of the stack; nobody else has one."""
    placed, _ = await carry_out(stack, http, "invoiced", count(200, share=0.1))
    found = await mailed(lab_root, placed)
    assert found
    assert all(one["pdf_bytes"] and one["mailed_at"] for one in found)
    shown = await asyncio.to_thread(told, lab_root, *ALL)
    numbers = [one["number"] for one in shown["invoices"]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert shown["jobs"]["parked"] == 0
    async with HttpClient(stack.addresses.url("mail"), timeout_s=30.0) as sink:
        mails: list[dict[str, Any]] = []
        while page := (await sink.get(f"/mails?after={len(mails)}")).json():
            mails += page
    ours = [mail for mail in mails if "invoiced@shop.example" in mail["recipients"]]
    assert {mail["subject"] for mail in ours} == {
        f"Your invoice INV-{one['number']:06}" for one in found
    }
    assert all(re.fullmatch(r"INV-\d{6}\.pdf", *mail["attachments"]) for mail in ours)
