"""Claims about the versions of the catalogue's JSON, by path and by header."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.month1.catalog.conftest import Shelf

V2_TYPE = "application/vnd.scalelab.v2+json"


async def test_both_versions_show_the_same_product(shelf: Shelf) -> None:
    """Version 2 says the price as one thing; the tags differ, as the bytes do."""
    first = await shelf.client.get("/api/v1/products/p-0001")
    second = await shelf.client.get("/api/v2/products/p-0001")
    one, two = first.json(), second.json()
    assert two["price"] == {"minor": one["unit_minor"], "currency": one["currency"]}
    assert two["id"] == one["product_id"]
    assert first.headers["etag"] != second.headers["etag"]
    crossed = await shelf.client.get(
        "/api/v2/products/p-0001", headers={"if-none-match": first.headers["etag"]}
    )
    assert crossed.status_code == 200


async def test_the_old_version_says_that_it_ends_and_what_follows(shelf: Shelf) -> None:
    """On the list, on a product, on 304 and on a write; the new one says nothing of the kind."""
    tag = (await shelf.client.get("/api/v1/products/p-0001")).headers["etag"]
    answers = [
        await shelf.client.get("/api/v1/products"),
        await shelf.client.get("/api/v1/products/p-0001"),
        await shelf.client.get("/api/v1/products/p-0001", headers={"if-none-match": tag}),
        await shelf.client.get("/api/products/p-0001"),
        await shelf.client.delete("/api/v1/products/none", headers=shelf.bearer("admin")),
    ]
    for answer in answers:
        assert answer.headers["deprecation"] == "@1772323200"
        assert answer.headers["sunset"] == "Mon, 01 Mar 2027 12:00:00 GMT"
        assert 'rel="successor-version"' in answer.headers["link"]
    target = answers[1].headers["link"].partition(">")[0].removeprefix("<")
    followed = await shelf.client.get(target)
    assert followed.json()["id"] == "p-0001"
    assert not {"deprecation", "sunset", "link"} & set(followed.headers)


async def test_the_header_names_the_version_and_vary_tells_caches(shelf: Shelf) -> None:
    """One address, by Accept or API-Version; the answer says which it is."""
    path = "/api/products/p-0001"
    by_accept = await shelf.client.get(path, headers={"accept": V2_TYPE})
    by_number = await shelf.client.get(path, headers={"api-version": "2"})
    silent = await shelf.client.get(path)
    assert [answer.headers["api-version"] for answer in (by_accept, by_number, silent)] == [
        "2",
        "2",
        "1",
    ]
    assert by_accept.headers["content-type"] == V2_TYPE
    assert by_accept.content == by_number.content
    assert "unit_minor" in silent.json()
    for answer in (by_accept, by_number, silent):
        assert answer.headers["vary"] == "Accept, API-Version"
    again = await shelf.client.get(
        path, headers={"accept": V2_TYPE, "if-none-match": by_accept.headers["etag"]}
    )
    assert (again.status_code, again.headers["vary"]) == (304, "Accept, API-Version")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"api-version": "3"}, (400, "unknown_version")),
        ({"accept": "application/vnd.scalelab.v3+json"}, (406, "not_acceptable")),
        ({"accept": "text/html"}, (406, "not_acceptable")),
        ({"accept": V2_TYPE, "api-version": "1"}, (406, "not_acceptable")),
    ],
)
async def test_an_unknown_version_is_a_problem_and_is_not_kept(
    shelf: Shelf, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    """Neither the wrong version nor a guess; nobody on the way keeps the answer."""
    for path in ("/api/products", "/api/products/p-0001"):
        answer = await shelf.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == expected
        assert answer.headers["cache-control"] == "no-store"


async def test_version_2_is_written_as_it_is_read(shelf: Shelf) -> None:
    """PUT, then a patch inside the price, each seen by version 1."""
    body = {
        "name": "Mug",
        "description": "Holds tea.",
        "category": "kitchen",
        "price": {"minor": 1290, "currency": "EUR"},
    }
    made = await shelf.client.put("/api/v2/products/mug", json=body, headers=shelf.bearer("admin"))
    assert (made.status_code, made.headers["location"]) == (201, "/api/v2/products/mug")
    patched = await shelf.client.patch(
        "/api/v2/products/mug",
        content=b'{"price": {"minor": 990}}',
        headers=shelf.bearer("admin")
        | {"content-type": "application/merge-patch+json", "if-match": made.headers["etag"]},
    )
    assert patched.json()["price"] == {"minor": 990, "currency": "EUR"}
    old = (await shelf.client.get("/api/v1/products/mug")).json()
    assert (old["unit_minor"], old["currency"], old["version"]) == (990, "EUR", 2)


async def test_the_list_has_a_tag_that_changes_with_what_it_shows(shelf: Shelf) -> None:
    """304 while nothing on the page changes, by the version's path and by header."""
    for path in ("/api/v1/products", "/api/v2/products", "/api/products"):
        tag = (await shelf.client.get(path)).headers["etag"]
        same = await shelf.client.get(path, headers={"if-none-match": tag})
        assert (same.status_code, same.content) == (304, b"")
    await shelf.client.delete("/api/v1/products/p-0001", headers=shelf.bearer("admin"))
    other = await shelf.client.get("/api/v1/products", headers={"if-none-match": tag})
    assert other.status_code == 200
