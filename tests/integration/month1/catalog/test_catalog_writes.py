"""Claims about conditional writes, patches and deletions, on real PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.integration.month1.catalog.conftest import Shelf

PATCH_TYPE = "application/merge-patch+json"
PATH = "/api/v1/products/mug"
MUG: dict[str, Any] = {
    "name": "Mug",
    "description": "Holds tea.",
    "category": "kitchen",
    "unit_minor": 1290,
    "currency": "EUR",
}


async def put(shelf: Shelf, body: dict[str, Any] = MUG, **headers: str) -> httpx.Response:
    """PUT the mug; if_match becomes If-Match."""
    return await shelf.client.put(PATH, json=body, headers=_headers(shelf, headers))


async def patch(shelf: Shelf, body: object, path: str = PATH, **headers: str) -> httpx.Response:
    """PATCH, as a merge patch unless content_type says otherwise."""
    sent = {"content-type": PATCH_TYPE} | _headers(shelf, headers)
    raw = body if isinstance(body, bytes) else httpx.Request("PUT", "http://x", json=body).content
    return await shelf.client.patch(path, content=raw, headers=sent)


def _headers(shelf: Shelf, headers: dict[str, str]) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {**shelf.bearer("admin"), **named}


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def test_a_new_product_says_where_it_is(shelf: Shelf) -> None:
    """201 with Location and a tag; the Location answers with the same tag."""
    made = await put(shelf)
    assert (made.status_code, made.headers["location"]) == (201, PATH)
    found = await shelf.client.get(made.headers["location"])
    assert found.headers["etag"] == made.headers["etag"]
    assert "location" not in (await put(shelf)).headers


async def test_if_none_match_makes_but_never_replaces(shelf: Shelf) -> None:
    """Of two makers one wins, and the product is the winner's."""
    answers = await asyncio.gather(
        *(put(shelf, MUG | {"unit_minor": 100 + n}, if_none_match="*") for n in range(8))
    )
    won = [answer for answer in answers if answer.status_code == 201]
    assert len(won) == 1
    assert {code(answer) for answer in answers if answer is not won[0]} == {
        (412, "precondition_failed")
    }
    assert (await shelf.client.get(PATH)).json() == won[0].json()


async def test_a_lost_update_is_refused_and_a_repeated_one_is_not(shelf: Shelf) -> None:
    """Two keepers decide on one tag: the second gets 412; the first may repeat what it did."""
    tag = (await put(shelf)).headers["etag"]
    mine, theirs = MUG | {"unit_minor": 1}, MUG | {"unit_minor": 2}
    first = await put(shelf, mine, if_match=tag)
    assert (first.status_code, first.json()["version"]) == (200, 2)
    assert code(await put(shelf, theirs, if_match=tag)) == (412, "precondition_failed")
    again = await put(shelf, mine, if_match=tag)
    assert (again.status_code, again.json()["version"]) == (200, 2)


async def test_if_match_on_nothing_is_refused_and_makes_nothing(shelf: Shelf) -> None:
    """Whoever changes what it has seen does not make what is not there."""
    assert code(await put(shelf, if_match="*")) == (412, "precondition_failed")
    assert (await shelf.client.get(PATH)).status_code == 404


async def test_a_patch_changes_what_it_names(shelf: Shelf) -> None:
    """The rest stays; the next read, cached or not, shows it."""
    tag = (await put(shelf)).headers["etag"]
    await shelf.client.get(PATH)
    answer = await patch(shelf, {"unit_minor": 990}, if_match=tag)
    assert answer.status_code == 200, answer.text
    assert answer.json() == MUG | {"unit_minor": 990, "product_id": "mug", "version": 2}
    assert (await shelf.client.get(PATH)).json() == answer.json()


async def test_a_patch_without_if_match_is_428(shelf: Shelf) -> None:
    """Whoever changes a part must say of what."""
    await put(shelf)
    assert code(await patch(shelf, {"unit_minor": 990})) == (428, "precondition_required")
    assert (await shelf.client.get(PATH)).json()["version"] == 1


async def test_a_stale_patch_is_412_and_a_repeated_one_200(shelf: Shelf) -> None:
    """The tag of before, with another change and with the same one."""
    tag = (await put(shelf)).headers["etag"]
    assert (await patch(shelf, {"unit_minor": 990}, if_match=tag)).status_code == 200
    assert code(await patch(shelf, {"unit_minor": 980}, if_match=tag))[0] == 412
    again = await patch(shelf, {"unit_minor": 990}, if_match=tag)
    assert (again.status_code, again.json()["version"]) == (200, 2)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ({"unit_minor": 1}, "application/json", (415, "unsupported_media_type")),
        (b"{", PATCH_TYPE, (400, "malformed_json")),
        ({"name": None}, PATCH_TYPE, (422, "invalid_input")),
        ({"unit_minor": -1}, PATCH_TYPE, (422, "invalid_input")),
        ({"unit_minor": "1"}, PATCH_TYPE, (422, "invalid_input")),
        ({"colour": "red"}, PATCH_TYPE, (422, "invalid_input")),
        ({"version": 9}, PATCH_TYPE, (422, "invalid_input")),
        (["name"], PATCH_TYPE, (422, "invalid_input")),
        (b"null", PATCH_TYPE, (422, "invalid_input")),
        (b'{"name": "\\ud800"}', PATCH_TYPE, (422, "invalid_input")),
    ],
)
async def test_a_patch_that_makes_no_product_changes_nothing(
    shelf: Shelf, body: object, content_type: str, expected: tuple[int, str]
) -> None:
    """The wrong kind, no JSON, a removed or broken or invented member, no object."""
    tag = (await put(shelf)).headers["etag"]
    answer = await patch(shelf, body, if_match=tag, content_type=content_type)
    assert code(answer) == expected
    assert (await shelf.client.get(PATH)).json()["version"] == 1


async def test_a_patch_of_nothing_is_404(shelf: Shelf) -> None:
    """Preconditions count only where the request could have succeeded."""
    answer = await patch(shelf, {"unit_minor": 1}, if_match="*")
    assert code(answer) == (404, "unknown_product")


async def test_racing_patches_on_one_tag_have_one_winner(shelf: Shelf) -> None:
    """Ten keepers, one tag: one 200, nine 412."""
    tag = (await put(shelf)).headers["etag"]
    answers = await asyncio.gather(
        *(patch(shelf, {"unit_minor": 100 + n}, if_match=tag) for n in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    assert (await shelf.client.get(PATH)).json()["version"] == 2


async def test_a_deleted_product_is_gone_for_every_reader(shelf: Shelf) -> None:
    """204, again 204; not found, not listed, no price; one that never was: 204."""
    await put(shelf)
    await shelf.client.get(PATH)
    for path in (PATH, PATH, "/api/v1/products/never"):
        answer = await shelf.client.delete(path, headers=shelf.bearer("admin"))
        assert (answer.status_code, answer.content) == (204, b"")
    assert code(await shelf.client.get(PATH)) == (404, "unknown_product")
    listed = await shelf.client.get("/api/v1/products", params={"limit": 100})
    assert "mug" not in {product["product_id"] for product in listed.json()["products"]}
    prices = await shelf.client.get(
        "/internal/v1/prices", params={"ids": "mug"}, headers=shelf.bearer("internal")
    )
    assert prices.json()["prices"] == []
    assert code(await patch(shelf, {"unit_minor": 1}, if_match="*"))[0] == 404


async def test_a_product_made_again_never_repeats_a_version(shelf: Shelf) -> None:
    """P1 over a deletion: the old tag does not fit the new product, and no cache shows the old."""
    old = (await put(shelf)).headers["etag"]
    await shelf.client.get(PATH)
    await shelf.client.delete(PATH, headers=shelf.bearer("admin"))
    made = await put(shelf, MUG | {"unit_minor": 5})
    assert (made.status_code, made.json()["version"]) == (201, 3)
    again = await shelf.client.get(PATH, headers={"if-none-match": old})
    assert (again.status_code, again.json()["unit_minor"]) == (200, 5)


async def test_a_deletion_with_a_stale_tag_is_refused(shelf: Shelf) -> None:
    """If-Match guards a removal as it guards a change."""
    tag = (await put(shelf)).headers["etag"]
    await put(shelf, MUG | {"unit_minor": 5})
    headers = shelf.bearer("admin") | {"if-match": tag}
    assert code(await shelf.client.delete(PATH, headers=headers))[0] == 412
    assert (await shelf.client.get(PATH)).status_code == 200


@pytest.mark.parametrize(("scopes", "expected"), [(None, 401), (["shop"], 403)])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", [1, 2])
async def test_nobody_but_a_keeper_writes(
    shelf: Shelf, version: int, method: str, scopes: list[str] | None, expected: int
) -> None:
    """In every version, whatever the body."""
    headers = {} if scopes is None else shelf.bearer(*scopes)
    path = f"/api/v{version}/products/p-0001"
    answer = await shelf.client.request(method, path, json={}, headers=headers)
    assert answer.status_code == expected
    assert (await shelf.client.get("/api/v1/products/p-0001")).json()["version"] == 1
