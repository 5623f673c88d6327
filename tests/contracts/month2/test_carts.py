"""One cart, three ways: two tables and a row lock, one document, the ring by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from month2_databases.consistency import (
    AgreedCart,
    CartClosed,
    CartEmpty,
    CartFull,
    CartStore,
    PostgresCart,
    open_ring,
)
from month2_databases.experiments.ring_bed import RingBed
from month2_databases.models import JsonbCart
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import InvalidInput

pytestmark = pytest.mark.timeout(300)  # whoever comes first starts the ring


@pytest.fixture(params=["postgres", "jsonb", "ring"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[CartStore]:
    """Each store, its tables made."""
    if request.param == "ring":
        bed: RingBed = request.getfixturevalue("ring_bed")
        async with open_ring(bed.settings("tests")) as client:
            yield AgreedCart(client, random=Random(1), sleep=asyncio.sleep)
        return
    settings = PostgresSettings(
        request.getfixturevalue("database_dsn"), acquire_timeout_s=30.0, connect_timeout_s=30.0
    )
    async with Database(settings, name="carts") as database:
        cart = PostgresCart(database) if request.param == "postgres" else JsonbCart(database)
        await cart.define()
        yield cart


async def test_a_cart_that_nobody_has_begun_is_empty(store: CartStore, fresh_key: str) -> None:
    """No error, nothing in it."""
    assert await store.lines(fresh_key) == {}


async def test_quantities_are_set_changed_and_taken_out(store: CartStore, fresh_key: str) -> None:
    """0 takes a line out; a line taken out may come back."""
    await store.set_quantity(fresh_key, "tea", 2)
    await store.set_quantity(fresh_key, "cup", 1)
    await store.set_quantity(fresh_key, "tea", 3)
    assert await store.lines(fresh_key) == {"tea": 3, "cup": 1}
    await store.set_quantity(fresh_key, "tea", 0)
    await store.set_quantity(fresh_key, "spoon", 0)
    assert await store.lines(fresh_key) == {"cup": 1}
    await store.add(fresh_key, "tea", 5)
    assert await store.lines(fresh_key) == {"tea": 5, "cup": 1}


async def test_adds_at_once_all_count(store: CartStore, fresh_key: str) -> None:
    """C3."""
    await asyncio.gather(*(store.add(fresh_key, "tea", 2) for _ in range(6)))
    assert await store.lines(fresh_key) == {"tea": 12}


async def test_a_cart_becomes_at_most_one_order(store: CartStore, fresh_key: str) -> None:
    """C1: all who check out at once, and all later, are told the same order."""
    await store.set_quantity(fresh_key, "tea", 1)
    told = await asyncio.gather(*(store.check_out(fresh_key, f"order-{n}") for n in range(6)))
    assert len(set(told)) == 1
    assert await store.check_out(fresh_key, "order-late") == told[0]


async def test_a_cart_that_became_an_order_changes_no_more(
    store: CartStore, fresh_key: str
) -> None:
    """C2: neither by set nor by add, of old lines or new ones."""
    await store.set_quantity(fresh_key, "tea", 1)
    await store.check_out(fresh_key, "order")
    for sku in ("tea", "cup"):
        with pytest.raises(CartClosed):
            await store.set_quantity(fresh_key, sku, 2)
        with pytest.raises(CartClosed):
            await store.add(fresh_key, sku, 1)
    assert await store.lines(fresh_key) == {"tea": 1}


async def test_an_empty_cart_becomes_no_order(store: CartStore, fresh_key: str) -> None:
    """Neither one that was never begun nor one that was emptied."""
    with pytest.raises(CartEmpty):
        await store.check_out(fresh_key, "order")
    await store.set_quantity(fresh_key, "tea", 1)
    await store.set_quantity(fresh_key, "tea", 0)
    with pytest.raises(CartEmpty):
        await store.check_out(fresh_key, "order")


@pytest.mark.parametrize("quantity", [-1, 1000])
async def test_a_quantity_that_no_cart_takes_changes_nothing(
    store: CartStore, fresh_key: str, quantity: int
) -> None:
    """Refused before anything is sent."""
    await store.set_quantity(fresh_key, "tea", 1)
    with pytest.raises(InvalidInput):
        await store.set_quantity(fresh_key, "tea", quantity)
    with pytest.raises(InvalidInput):
        await store.add(fresh_key, "tea", quantity)
    assert await store.lines(fresh_key) == {"tea": 1}


async def test_adds_do_not_grow_a_line_beyond_its_bound(store: CartStore, fresh_key: str) -> None:
    """What is held and what is added count together."""
    await store.set_quantity(fresh_key, "tea", 998)
    with pytest.raises(CartFull):
        await store.add(fresh_key, "tea", 2)
    assert await store.lines(fresh_key) == {"tea": 998}
