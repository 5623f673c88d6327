"""The provider over HTTP: its book is written before it answers, and once per key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from month6_capstone.payments.provider import CHARGES_THEN_HANGS, DECLINED, PAYS
from scalelab.clients.http import HttpClient
from scalelab.errors import (
    CorruptData,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    ScalelabError,
)
from tests.integration.month6.payments.running_provider import RunningProvider, provider_on


def charge_body(
    card: str = PAYS, *, order_id: str | None = None, amount_minor: int = 1250
) -> dict[str, Any]:
    return {
        "order_id": order_id or str(uuid4()),
        "amount_minor": amount_minor,
        "currency": "EUR",
        "card_token": card,
    }


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def test_a_charge_is_in_the_book_once_per_key(provider: RunningProvider) -> None:
    """Ten racing copies and a late one: one line, one charge id."""
    body = charge_body()
    async with HttpClient(provider.url, timeout_s=30) as http:
        copies = [http.post("/v1/charges", body, headers=key("k")) for _ in range(10)]
        answers = [
            *await asyncio.gather(*copies),
            await http.post("/v1/charges", body, headers=key("k")),
        ]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["charge_id"] for answer in answers}) == 1
    [line] = provider.lines()
    assert {name: line[name] for name in ("seq", "kind", "key", "order_id", "amount_minor")} == {
        "seq": 1,
        "kind": "charge",
        "key": "k",
        "order_id": body["order_id"],
        "amount_minor": 1250,
    }


async def test_another_key_is_another_charge(provider: RunningProvider) -> None:
    """A careless client can charge twice, and the book shows it."""
    body = charge_body()
    async with HttpClient(provider.url, timeout_s=30) as http:
        for text in ("one", "two"):
            await http.post("/v1/charges", body, headers=key(text))
        listed = await http.get("/v1/charges", params={"order_id": body["order_id"]})
    assert len(listed.json()["charges"]) == len(provider.lines()) == 2


async def test_a_declined_card_stays_declined(provider: RunningProvider) -> None:
    """402 card_declined, recorded, and the same for the same key."""
    body = charge_body(DECLINED)
    async with HttpClient(provider.url, timeout_s=30) as http:
        for _ in range(2):
            with pytest.raises(ScalelabError) as refusal:
                await http.post("/v1/charges", body, headers=key("k"))
            assert refusal.value.stable_code == "card_declined"
        listed = await http.get("/v1/charges", params={"order_id": body["order_id"]})
        answer = await http.post("/v1/charges", body, headers=key("k"), accept=frozenset({402}))
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert listed.json() == {"charges": []}
    assert [line["kind"] for line in provider.lines()] == ["decline"]


async def test_the_silent_card_charges_and_answers_the_second_time(
    provider: RunningProvider,
) -> None:
    """The first request times out after the money is taken; the same key gets the charge."""
    body = charge_body(CHARGES_THEN_HANGS)
    async with HttpClient(provider.url, timeout_s=30) as http:
        with pytest.raises(OutcomeUnknown):
            await http.post("/v1/charges", body, headers=key("k"), timeout_s=1.5)
        assert [line["kind"] for line in provider.lines()] == ["charge"]
        answer = await http.post("/v1/charges", body, headers=key("k"))
    assert answer.json()["charge_id"] == provider.lines()[0]["charge_id"]


@pytest.mark.parametrize(
    "changed",
    [
        {"amount_minor": 0},
        {"amount_minor": "1"},
        {"amount_minor": 1.5},
        {"currency": "euro"},
        {"card_token": "tok_1"},
        {"order_id": "x"},
        {"tip": 1},
    ],
)
async def test_a_malformed_charge_changes_nothing(
    provider: RunningProvider, changed: dict[str, Any]
) -> None:
    """A problem document, and no line in the book."""
    async with HttpClient(provider.url, timeout_s=30) as http:
        with pytest.raises(InvalidInput):
            await http.post("/v1/charges", charge_body() | changed, headers=key("k"))
        with pytest.raises(InvalidInput) as refusal:
            await http.post("/v1/charges", charge_body())
    assert refusal.value.stable_code == "idempotency_key_missing"
    assert provider.lines() == []


async def test_a_key_belongs_to_one_request(provider: RunningProvider) -> None:
    """The same key with another amount is refused."""
    async with HttpClient(provider.url, timeout_s=30) as http:
        await http.post("/v1/charges", charge_body(), headers=key("k"))
        with pytest.raises(IdempotencyMismatch):
            await http.post("/v1/charges", charge_body(amount_minor=1), headers=key("k"))


async def test_never_more_is_refunded_than_was_charged(provider: RunningProvider) -> None:
    """Partial refunds add up to the charge, repeats count once, an unknown charge is 404."""
    async with HttpClient(provider.url, timeout_s=30) as http:
        made = await http.post("/v1/charges", charge_body(), headers=key("k"))
        refund: dict[str, Any] = {"charge_id": made.json()["charge_id"]}
        for _ in range(2):
            await http.post("/v1/refunds", refund | {"amount_minor": 250}, headers=key("r1"))
        with pytest.raises(ScalelabError) as refusal:
            await http.post("/v1/refunds", refund | {"amount_minor": 1001}, headers=key("r2"))
        assert refusal.value.stable_code == "refund_exceeds_charge"
        rest = await http.post("/v1/refunds", refund, headers=key("r3"))
        assert rest.json()["amount_minor"] == 1000
        with pytest.raises(NotFound):
            await http.post("/v1/refunds", {"charge_id": "ch_none"}, headers=key("r4"))
    refunds = [line["amount_minor"] for line in provider.lines() if line["kind"] == "refund"]
    assert refunds == [250, 1000]


async def test_the_book_survives_a_restart_with_a_torn_tail(tmp_path: Path) -> None:
    """Half a line at the end is cut off; keys from before still replay."""
    book = tmp_path / "book.jsonl"
    body = charge_body()
    async with provider_on(book) as running, HttpClient(running.url, timeout_s=30) as http:
        first = await http.post("/v1/charges", body, headers=key("k"))
    whole = book.read_bytes()
    book.write_bytes(whole + whole[: len(whole) // 2])
    async with provider_on(book) as running, HttpClient(running.url, timeout_s=30) as http:
        again = await http.post("/v1/charges", body, headers=key("k"))
        await http.post("/v1/charges", charge_body(), headers=key("other"))
        assert again.json() == first.json()
        assert [line["seq"] for line in running.lines()] == [1, 2]


async def test_a_damaged_book_keeps_the_provider_from_starting(tmp_path: Path) -> None:
    """It must not guess about money: the process ends, and the file is left as it was."""
    book = tmp_path / "book.jsonl"
    damaged = b'{"seq":1,"at":"x","ki\n{"seq":2}\n'
    book.write_bytes(damaged)
    with pytest.raises(CorruptData, match=r"book\.jsonl: line 1"):
        async with provider_on(book):
            pass
    assert book.read_bytes() == damaged
