"""A replica keeps nothing of its own: whoever was in the middle of something goes on at another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from month1_caching_gateway.catalog import draw
from month1_caching_gateway.stack import module_of
from month1_caching_gateway.topology import (
    REPLICAS,
    TOKEN_AUDIENCE,
    TOKEN_ISSUER,
    Addresses,
    environment,
)
from scalelab.clock import SystemClock
from scalelab.issuer import demo_token
from scalelab.lab.runtime import Runtime, ServiceSpec

if TYPE_CHECKING:
    from scalelab.lab.servers import Redis

TIMEOUT_S = 30.0
PRODUCTS = 25
MUG = {
    "name": "Mug",
    "description": "Holds tea.",
    "category": "kitchen",
    "unit_minor": 1290,
    "currency": "EUR",
}


@dataclass(frozen=True, slots=True)
class Replicas:
    """Three processes over one database and one cache. headers: of a keeper."""

    runtime: Runtime
    addresses: Addresses
    headers: dict[str, str]

    def at(self, number: int) -> httpx.Client:
        """A caller of one replica, 0 to 2."""
        url = self.addresses.url(REPLICAS[number])
        return httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=self.headers)

    def kill(self, number: int) -> None:
        """SIGKILL one replica; it is gone when this returns."""
        self.runtime.kill(REPLICAS[number])
        with self.at(number) as gone, pytest.raises(httpx.ConnectError):
            gone.get("/health/live")


@pytest.fixture
def replicas(stocked_dsn: str, redis_server: Redis, tmp_path: Path) -> Iterator[Replicas]:
    """Three replicas and their issuer as real processes, which nobody restarts."""
    with Runtime(tmp_path / "replicas", private=True, is_disposable=True) as runtime:
        names = (*REPLICAS, "issuer")
        addresses = Addresses(
            ports={name: runtime.port(name, 0) for name in names},
            hosts={},
            database_dsn=stocked_dsn,
            redis_url=redis_server.url_of(0),
            key_file=tmp_path / "keys" / "es256.pem",
            routes_file=tmp_path / "routes.yaml",
        )
        runtime.services(
            *(
                ServiceSpec(
                    name,
                    ("python", "-m", module_of(name)),
                    port=addresses.ports[name],
                    env=environment(name, addresses),
                )
                for name in names
            )
        )
        token = demo_token(
            addresses.key_file,
            issuer=TOKEN_ISSUER,
            audience=TOKEN_AUDIENCE,
            subject="keeper",
            scopes=["admin"],
            ttl_s=600,
            clock=SystemClock(),
        )
        yield Replicas(runtime, addresses, {"Authorization": f"Bearer {token}"})


def test_whoever_was_in_the_middle_goes_on_at_another_replica(replicas: Replicas) -> None:
    """A walk through the list, a copy with a tag, a write that is repeated: each begun at a
    replica that is killed between the two calls."""
    with replicas.at(0) as first:
        page = first.get("/api/v1/products", params={"limit": 10}).json()
        tag = first.get("/api/v1/products/p-0001").headers["etag"]
        made = first.put("/api/v1/products/z-mug", json=MUG)
    assert made.status_code == 201, made.text
    replicas.kill(0)

    with replicas.at(1) as second:
        seen = [product["product_id"] for product in page["products"]]
        while page["next_cursor"] is not None:
            params = {"limit": 10, "cursor": page["next_cursor"]}
            page = second.get("/api/v1/products", params=params).json()
            seen += [product["product_id"] for product in page["products"]]
        current = second.get("/api/v1/products/p-0001", headers={"if-none-match": tag})
        again = second.put("/api/v1/products/z-mug", json=MUG)
        patched = second.patch(
            "/api/v1/products/z-mug",
            content=b'{"unit_minor": 990}',
            headers={
                "content-type": "application/merge-patch+json",
                "if-match": made.headers["etag"],
            },
        )
    assert seen == [product_id for product_id, _ in draw(PRODUCTS, 1)] + ["z-mug"]
    assert current.status_code == 304
    assert (again.status_code, again.headers["etag"]) == (200, made.headers["etag"])
    assert (patched.status_code, patched.json()["version"]) == (200, 2)
    replicas.kill(1)

    with replicas.at(2) as third:
        assert third.get("/api/v1/products/z-mug").json()["unit_minor"] == 990
        assert third.delete("/api/v1/products/z-mug").status_code == 204
        assert third.get("/api/v1/products/z-mug").status_code == 404
