"""The month's stack as a person starts it: every part a process, everything through the doors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from month1_caching_gateway.stack import PURGE_TOKEN, Stack, authority_path, start_stack
from month1_caching_gateway.topology import REPLICAS, TOKEN_AUDIENCE, TOKEN_ISSUER
from scalelab.clock import SystemClock
from scalelab.issuer import demo_token
from scalelab.lab.runtime import Runtime

DEADLINE_S = 30.0
PRODUCTS = 40
MUG: dict[str, Any] = {
    "name": "Mug",
    "description": "Holds tea.",
    "category": "kitchen",
    "unit_minor": 1290,
    "currency": "EUR",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A private stack with a small catalogue."""
    with Runtime(tmp_path_factory.mktemp("month1"), private=True, is_disposable=True) as runtime:
        yield start_stack(runtime, products=PRODUCTS)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A caller of the gateway."""
    with httpx.Client(base_url=stack.url, timeout=DEADLINE_S) as opened:
        yield opened


def bearer(stack: Stack, subject: str, *scopes: str) -> dict[str, str]:
    """The header of a token with these scopes."""
    token = demo_token(
        stack.addresses.key_file,
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=scopes,
        ttl_s=600,
        clock=SystemClock(),
    )
    return {"Authorization": f"Bearer {token}"}


def until(claim: Callable[[], bool], what: str) -> None:
    """Poll until `claim` holds; fail after the deadline."""
    give_up_s = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.05)


def test_a_product_is_a_miss_then_a_hit_then_304(client: httpx.Client) -> None:
    """Three processes share one cache: the second read is a hit, whoever answers it."""
    first, second = [client.get("/api/v1/products/p-0001") for _ in range(2)]
    assert [first.status_code, second.status_code] == [200, 200], first.text
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    again = client.get("/api/v1/products/p-0001", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_edge_shows_the_pages_and_keeps_public_answers(stack: Stack) -> None:
    """The built page, then a list from behind the gateway: the second time from the edge."""
    if stack.edge_url is None:
        pytest.skip(f"no edge: {stack.without[0]}")
    with httpx.Client(base_url=stack.edge_url, timeout=DEADLINE_S) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        first, second = [client.get("/api/v2/products?limit=3") for _ in range(2)]
    assert [item["id"] for item in first.json()["items"]] == ["p-0001", "p-0002", "p-0003"]
    kept = [answer.headers["x-edge-cache"] for answer in (first, second)]
    assert kept[0] == "MISS"
    assert kept[1] in ("HIT", "STALE", "EXPIRED")  # kept, however long the second took to ask


def test_two_edges_keep_their_own_answers_and_one_purge_reaches_both(stack: Stack) -> None:
    """Near over TLS, far through its distance; a purge by prefix makes both ask again."""
    if stack.edge_url is None:
        pytest.skip(f"no edge: {stack.without[0]}")
    trust = ssl.create_default_context(
        cafile=str(authority_path(stack.runtime.root) / "authority.crt")
    )
    near = f"https://localhost:{stack.addresses.ports['edge-tls']}"
    far = stack.addresses.url("edge-far-line")
    path = "/api/v2/products?limit=7"
    token = stack.runtime.secret(PURGE_TOKEN)
    with httpx.Client(verify=trust, timeout=DEADLINE_S) as client:
        for edge in (near, far):
            assert client.get(edge + path).headers["x-edge-cache"] == "MISS"
            assert client.get(edge + path).headers["x-edge-cache"] in ("HIT", "EXPIRED", "STALE")

        def purged() -> bool:
            # A copy that was being asked about may come in after the purge: then once more.
            answer = client.post(
                stack.addresses.url("purge") + "/purge",
                json={"target": "/api/", "prefix": True},
                headers={"Authorization": f"Bearer {token}"},
            )
            assert answer.json()["removed"].keys() == {"near", "far"}
            asked = [client.get(edge + path) for edge in (near, far)]
            assert [one.headers["x-edge"] for one in asked] == ["near", "far"]
            return [one.headers["x-edge-cache"] for one in asked] == ["MISS", "MISS"]

        until(purged, "both edges ask the origin again")


def test_the_catalogue_may_be_read_by_any_page_and_written_by_none(client: httpx.Client) -> None:
    """CORS: public answers name no origin; a preflight for a write is refused."""
    page = {"Origin": "https://shop.example"}
    read = client.get("/api/v2/products?limit=3", headers=page)
    assert read.headers["access-control-allow-origin"] == "*"
    asked = {**page, "Access-Control-Request-Method": "PUT"}
    written = client.options("/api/v1/products/p-0001", headers=asked)
    assert "PUT" not in written.headers.get("access-control-allow-methods", "")


def test_a_write_needs_the_keeper_and_is_seen_at_once(stack: Stack, client: httpx.Client) -> None:
    """Nobody, a shopper, the keeper: 401, 403, 201; the next read shows it."""
    path = f"/api/v1/products/z-{uuid4().hex[:8]}"
    assert client.get(path).status_code == 404
    assert client.put(path, json=MUG).status_code == 401
    shopper = client.put(path, json=MUG, headers=bearer(stack, "eve", "shop"))
    assert shopper.status_code == 403
    keeper = client.put(path, json=MUG, headers=bearer(stack, "ann", "admin"))
    assert keeper.status_code == 201, keeper.text
    assert client.get(path).json()["unit_minor"] == 1290


def test_a_patch_passes_the_gateway_with_its_condition(stack: Stack, client: httpx.Client) -> None:
    """If-Match arrives: 428 without, 200 with the tag that was read, 412 with the one before."""
    path, keeper = "/api/v2/products/p-0009", bearer(stack, "pat", "admin")
    keeper["Content-Type"] = "application/merge-patch+json"
    tag = client.get(path).headers["etag"]
    told = [
        client.patch(path, content=body, headers=keeper | condition)
        for body, condition in (
            (b'{"price": {"minor": 990}}', {}),
            (b'{"price": {"minor": 990}}', {"If-Match": tag}),
            (b'{"price": {"minor": 980}}', {"If-Match": tag}),
        )
    ]
    assert [answer.status_code for answer in told] == [428, 200, 412], told[0].text
    assert client.get(path).json()["price"]["minor"] == 990
    old = client.get("/api/v1/products/p-0009")
    assert {"deprecation", "sunset", "link"} <= set(old.headers)


def test_a_keeper_in_a_hurry_is_told_when_to_come_back(stack: Stack, client: httpx.Client) -> None:
    """A burst beyond the allowance ends in 429 with Retry-After; another keeper is not affected."""
    mine, other = bearer(stack, "hasty", "admin"), bearer(stack, "calm", "admin")
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(
            lambda _: client.put("/api/v1/products/z-hasty", json=MUG, headers=mine), range(60)
        )
        answers = list(sent)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused, [answer.status_code for answer in answers]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert client.put("/api/v1/products/z-calm", json=MUG, headers=other).status_code == 201


def test_what_is_not_in_the_routes_does_not_exist(client: httpx.Client) -> None:
    """Internal routes, probes and metrics stay inside."""
    for path in ("/internal/v1/prices?ids=p-0001", "/metrics", "/health/ready", "/docs"):
        assert client.get(path).status_code == 404, path


def test_a_killed_replica_is_not_noticed_by_readers(stack: Stack, client: httpx.Client) -> None:
    """SIGKILL one of three: every read is answered while it is away, and it comes back."""
    victim = REPLICAS[1]
    cursor = client.get("/api/v1/products", params={"limit": 5}).json()["next_cursor"]
    stack.runtime.kill(victim)
    for number in range(30):
        answer = client.get("/api/v1/products", params={"limit": 5, "cursor": cursor})
        assert answer.status_code == 200, (number, answer.text)
        assert answer.json()["products"][0]["product_id"] == "p-0006"
    until(
        lambda: any(
            process.name == victim and process.state == "running"
            for process in stack.runtime.status()
        ),
        f"{victim} comes back",
    )
