"""Claims about the catalogue's HTTP, on real PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from month1_caching_gateway.catalog import draw

if TYPE_CHECKING:
    from tests.integration.month1.catalog.conftest import Shelf

PRODUCTS = 25
MUG = {
    "name": "Mug",
    "description": "Holds tea.",
    "category": "kitchen",
    "unit_minor": 1290,
    "currency": "EUR",
}


async def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_pages_show_every_product_once_in_order(shelf: Shelf) -> None:
    """Following next_cursor from the start to null walks the whole list."""
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": "7"} | ({"cursor": cursor} if cursor else {})
        answer = await shelf.client.get("/api/v1/products", params=params)
        assert answer.status_code == 200
        seen += [product["product_id"] for product in answer.json()["products"]]
        cursor = answer.json()["next_cursor"]
    assert seen == [product_id for product_id, _ in draw(PRODUCTS, 1)]


async def test_a_product_inserted_meanwhile_shifts_no_page(shelf: Shelf) -> None:
    """The cursor is a position, not an offset."""
    first = (await shelf.client.get("/api/v1/products", params={"limit": 10})).json()
    await shelf.client.put("/api/v1/products/a-new", json=MUG, headers=shelf.bearer("admin"))
    second = await shelf.client.get(
        "/api/v1/products", params={"limit": 10, "cursor": first["next_cursor"]}
    )
    assert second.json()["products"][0]["product_id"] == "p-0011"


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1e3"])
async def test_a_limit_outside_1_to_100_is_refused(shelf: Shelf, limit: str) -> None:
    """Nobody makes the database send everything at once."""
    answer = await shelf.client.get("/api/v1/products", params={"limit": limit})
    assert await problem(answer) == (422, "invalid_input")


@pytest.mark.parametrize("cursor", ["", "x", "cC0wMDAx", "é", "A" * 150, "%00"])
async def test_a_cursor_of_our_making_only(shelf: Shelf, cursor: str) -> None:
    """A damaged or invented cursor is 400 with its own code."""
    answer = await shelf.client.get("/api/v1/products", params={"cursor": cursor})
    assert await problem(answer) == (400, "invalid_cursor")


async def test_a_product_is_a_miss_then_a_hit_with_the_same_bytes(shelf: Shelf) -> None:
    """X-Cache tells; the answer does not differ."""
    first, second = [await shelf.client.get("/api/v1/products/p-0001") for _ in range(2)]
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.content == second.content
    assert first.json()["product_id"] == "p-0001"
    assert first.headers["cache-control"] == "public, max-age=5"


async def test_a_current_copy_is_answered_304_without_a_body(shelf: Shelf) -> None:
    """A strong tag comes back in If-None-Match, alone or in a list."""
    tag = (await shelf.client.get("/api/v1/products/p-0001")).headers["etag"]
    assert tag.startswith('"')
    for header in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = await shelf.client.get(
            "/api/v1/products/p-0001", headers={"if-none-match": header}
        )
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == "public, max-age=5"
        assert "x-cache" in answer.headers


async def test_an_unknown_product_is_404_and_remembered(shelf: Shelf) -> None:
    """The second time the database is not asked; making the product ends the absence."""
    for _ in range(2):
        answer = await shelf.client.get("/api/v1/products/ghost")
        assert await problem(answer) == (404, "unknown_product")
    metrics = (await shelf.client.get("/metrics")).text
    assert 'cache_lookups_total{cache="product",outcome="hit"} 1.0' in metrics
    await shelf.client.put("/api/v1/products/ghost", json=MUG, headers=shelf.bearer("admin"))
    assert (await shelf.client.get("/api/v1/products/ghost")).status_code == 200


async def test_a_changed_price_is_seen_by_the_next_read(shelf: Shelf) -> None:
    """Busting on write: product and price show the new version, the old tag is stale."""
    before = await shelf.client.get("/api/v1/products/p-0001")
    await _price(shelf, "p-0001")
    body = {name: before.json()[name] for name in MUG} | {"unit_minor": 777}
    answer = await shelf.client.put(
        "/api/v1/products/p-0001", json=body, headers=shelf.bearer("internal")
    )
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    after = await shelf.client.get(
        "/api/v1/products/p-0001", headers={"if-none-match": before.headers["etag"]}
    )
    assert (after.status_code, after.json()["unit_minor"]) == (200, 777)
    assert after.headers["etag"] == answer.headers["etag"] != before.headers["etag"]
    assert await _price(shelf, "p-0001") == 777


async def test_the_same_put_again_changes_nothing(shelf: Shelf) -> None:
    """Idempotent: 201, then 200, one version, one tag."""
    answers = [
        await shelf.client.put("/api/v1/products/mug", json=MUG, headers=shelf.bearer("admin"))
        for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert {answer.headers["etag"] for answer in answers} == {answers[0].headers["etag"]}


async def test_racing_puts_give_out_each_version_once(shelf: Shelf) -> None:
    """Twenty different prices at once: versions 1 to 20, and the last one stands."""
    answers = await asyncio.gather(
        *(
            shelf.client.put(
                "/api/v1/products/mug",
                json=MUG | {"unit_minor": 100 + number},
                headers=shelf.bearer("admin"),
            )
            for number in range(20)
        )
    )
    versions = {answer.json()["version"]: answer.json()["unit_minor"] for answer in answers}
    assert sorted(versions) == list(range(1, 21))
    current = (await shelf.client.get("/api/v1/products/mug")).json()
    assert (current["version"], current["unit_minor"]) == (20, versions[20])


@pytest.mark.parametrize(
    ("scopes", "expected"), [(["shop"], 403), (["admin"], 201), (["internal"], 201), (None, 401)]
)
async def test_only_keepers_change_products(
    shelf: Shelf, scopes: list[str] | None, expected: int
) -> None:
    """A shopper's token is not enough; no token is nobody."""
    headers = {} if scopes is None else shelf.bearer(*scopes)
    answer = await shelf.client.put("/api/v1/products/mug", json=MUG, headers=headers)
    assert answer.status_code == expected
    found = await shelf.client.get("/api/v1/products/mug")
    assert found.status_code == (200 if expected == 201 else 404)


@pytest.mark.parametrize(
    "change",
    [
        {"unit_minor": 0},
        {"unit_minor": -1},
        {"unit_minor": 10**13},
        {"unit_minor": 12.5},
        {"unit_minor": "1290"},
        {"unit_minor": True},
        {"currency": "eur"},
        {"name": ""},
        {"name": "x" * 201},
        {"name": "a\u0000b"},
        {"description": "line\nbreak"},
        {"version": 7},
        {"product_id": "other"},
    ],
)
async def test_a_body_that_breaks_a_rule_changes_nothing(
    shelf: Shelf, change: dict[str, Any]
) -> None:
    """Amounts, lengths, control characters and fields that are not the client's to set."""
    answer = await shelf.client.put(
        "/api/v1/products/mug", json=MUG | change, headers=shelf.bearer("admin")
    )
    assert await problem(answer) == (422, "invalid_input")
    assert (await shelf.client.get("/api/v1/products/mug")).status_code == 404


async def test_prices_name_the_known_ids_only(shelf: Shelf) -> None:
    """Unknown ids are absent; doubles count once; nobody on the way keeps the answer."""
    answer = await shelf.client.get(
        "/internal/v1/prices",
        params={"ids": "p-0002,ghost,p-0001,p-0002"},
        headers=shelf.bearer("internal"),
    )
    assert [price["product_id"] for price in answer.json()["prices"]] == ["p-0002", "p-0001"]
    expected = dict(draw(2, 1))
    assert answer.json()["prices"][1] == {
        "product_id": "p-0001",
        "unit_minor": expected["p-0001"].unit_minor,
        "currency": "EUR",
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "ids", ["", ",", "p-0001,", "P-0001", "p 1", "x" * 41, ",".join(["p"] * 101), "p-1\n"]
)
async def test_a_price_list_of_another_form_is_refused(shelf: Shelf, ids: str) -> None:
    """At most a hundred well-formed ids."""
    answer = await shelf.client.get(
        "/internal/v1/prices", params={"ids": ids}, headers=shelf.bearer("internal")
    )
    assert await problem(answer) == (422, "invalid_input")


@pytest.mark.parametrize(("scope", "expected"), [("shop", 403), ("admin", 403)])
async def test_prices_are_for_services(shelf: Shelf, scope: str, expected: int) -> None:
    """The internal route asks for the internal scope."""
    answer = await shelf.client.get(
        "/internal/v1/prices", params={"ids": "p-0001"}, headers=shelf.bearer(scope)
    )
    assert answer.status_code == expected


@pytest.mark.parametrize("product_id", ["UPPER", "a_b", "x" * 41, "a b", "é", "%00"])
async def test_a_malformed_id_is_refused_before_any_lookup(shelf: Shelf, product_id: str) -> None:
    """What cannot be an id is neither cached nor asked for."""
    answer = await shelf.client.get(f"/api/v1/products/{product_id}")
    assert await problem(answer) == (422, "invalid_input")
    assert "cache_lookups_total{" not in _looked(await shelf.client.get("/metrics"))


async def _price(shelf: Shelf, product_id: str) -> int:
    answer = await shelf.client.get(
        "/internal/v1/prices", params={"ids": product_id}, headers=shelf.bearer("internal")
    )
    price: int = answer.json()["prices"][0]["unit_minor"]
    return price


def _looked(metrics: httpx.Response) -> str:
    """The lookup counters that are above zero."""
    lines = [line for line in metrics.text.splitlines() if line.startswith("cache_lookups_total")]
    return "\n".join(line for line in lines if not line.endswith(" 0.0"))
