"""The route table as a pure value."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from month1_caching_gateway.gateway import Route, RouteTable, load_config
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.ratelimit import (
    GCRA,
    CountedBy,
    FailurePolicy,
    LeasePolicy,
    LeaseRule,
    Policy,
    Rule,
)
from scalelab.errors import InvalidInput

ROUTES = [
    Route("root", prefix="/", name="root"),
    Route("catalog", prefix="/api/v1/products", name="products"),
    Route("orders", template="/api/v1/orders", methods=frozenset({"GET", "POST"}), name="list"),
    Route("orders", template="/api/v1/orders/{id}", name="one"),
    Route("orders", template="/api/v1/orders/{id}/events", streaming=True, name="events"),
    Route("orders", template="/api/v1/orders/mine", name="mine"),
    Route("orders", prefix="/api/v1/orders", methods=frozenset({"DELETE"}), name="cleanup"),
]


def resolve(table: RouteTable, method: str, path: str) -> str:
    return table.resolve(method, path[1:].split("/")).name


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/api/v1/orders", "list"),
        ("HEAD", "/api/v1/orders", "list"),
        ("POST", "/api/v1/orders", "list"),
        ("GET", "/api/v1/orders/7", "one"),
        ("GET", "/api/v1/orders/mine", "mine"),
        ("GET", "/api/v1/orders/7/events", "events"),
        ("GET", "/api/v1/orders/mine/events", "events"),
        ("DELETE", "/api/v1/orders/7", "cleanup"),
        ("DELETE", "/api/v1/orders/7/x/y", "cleanup"),
        ("GET", "/api/v1/products", "products"),
        ("GET", "/api/v1/products/", "products"),
        ("GET", "/api/v1/products/a/b", "products"),
        ("GET", "/api/v1/productsx", "root"),
        ("GET", "/api/v1/orders/", "root"),
        ("GET", "/", "root"),
    ],
)
def test_the_most_specific_route_wins_in_whatever_order_they_are_declared(
    method: str, path: str, name: str
) -> None:
    """R1."""
    for seed in range(5):
        routes = list(ROUTES)
        random.Random(seed).shuffle(routes)
        assert resolve(RouteTable(routes), method, path) == name


def test_nothing_matching_is_404_and_a_wrong_method_is_405_with_every_method() -> None:
    """R2."""
    table = RouteTable(ROUTES[1:])
    with pytest.raises(Refused) as unknown:
        resolve(table, "GET", "/elsewhere")
    assert unknown.value.status == 404
    with pytest.raises(Refused) as wrong:
        resolve(table, "PATCH", "/api/v1/orders")
    assert wrong.value.status == 405
    assert wrong.value.headers == ((b"Allow", b"DELETE, GET, HEAD, POST"),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Route("a", template="/x/{id}"), Route("b", template="/x/{name}")),
        (Route("a", prefix="/x"), Route("b", prefix="/x/")),
        (
            Route("a", template="/x"),
            Route("b", template="/x", methods=frozenset({"HEAD"})),
        ),
    ],
)
def test_two_routes_for_the_same_request_are_refused(one: Route, other: Route) -> None:
    """R3, in both orders."""
    for routes in ([one, other], [other, one]):
        with pytest.raises(InvalidInput):
            RouteTable(routes)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"template": "/a", "prefix": "/a"},
        {"template": "a"},
        {"prefix": "//a"},
        {"template": "/a", "methods": frozenset[str]()},
    ],
)
def test_a_route_that_makes_no_sense_cannot_be_built(fields: dict[str, object]) -> None:
    """The mistake shows where it is made."""
    with pytest.raises(InvalidInput):
        Route("a", **fields)  # type: ignore[arg-type]


def test_half_a_segment_cannot_be_a_parameter() -> None:
    """`/a/x{id}` would silently match nothing."""
    with pytest.raises(InvalidInput):
        RouteTable([Route("a", template="/a/x{id}")])


UPSTREAMS = {"a": {"endpoints": [{"host": "h", "port": 1}]}}


def test_a_configuration_document_becomes_the_same_values() -> None:
    """JSON in, frozen values out."""
    config = load_config(
        """{"routes": [{"upstream": "orders", "template": "/orders", "methods": ["POST"],
             "rate": "user", "idempotency_key_required": true, "timeout_s": 2.5}],
            "upstreams": {"orders": {"endpoints": [{"host": "127.0.0.1", "port": 8102}]}},
            "rates": {"user": {"capacity": 10, "rate_per_s": 5}}}"""
    )
    (route,) = config.route_table().routes
    assert route == Route(
        "orders",
        template="/orders",
        methods=frozenset({"POST"}),
        rate="user",
        idempotency_key_required=True,
        timeout_s=2.5,
    )
    assert config.upstream_list()[0].endpoints[0].authority == b"127.0.0.1:8102"
    assert config.policies()["user"] == Rule("user", Policy(10, 5))


def test_a_document_chooses_algorithm_plans_and_policies_by_name() -> None:
    """Rates, CORS and caches stand once and are named by routes."""
    config = load_config(
        {
            "routes": [
                {
                    "upstream": "a",
                    "prefix": "/a",
                    "auth": "either",
                    "rate": "calls",
                    "cors": "shop",
                },
                {"upstream": "a", "prefix": "/b", "auth": "none", "cache": "pages"},
                {"upstream": "a", "prefix": "/c", "rate": "exports"},
            ],
            "upstreams": UPSTREAMS,
            "rates": {
                "calls": {
                    "algorithm": "gcra",
                    "by": "key",
                    "capacity": 5,
                    "rate_per_s": 1,
                    "on_failure": "open",
                    "plans": {"pro": {"capacity": 50, "rate_per_s": 10}},
                },
                "exports": {"algorithm": "concurrency", "slots": 2, "lease_s": 30, "by": "user"},
            },
            "cors": {"shop": {"origins": ["https://shop.example"], "credentials": True}},
            "caches": {"pages": {"query": ["page"], "default_ttl_s": 5}},
        }
    )
    calls, exports = config.policies()["calls"], config.policies()["exports"]
    assert calls == Rule(
        "calls",
        Policy(5, 1),
        CountedBy.API_KEY,
        {"pro": Policy(50, 10)},
        GCRA,
        FailurePolicy.OPEN,
    )
    assert exports == LeaseRule("exports", LeasePolicy(2, 30), CountedBy.USER)
    first, second, _ = config.route_table().routes
    assert first.cors is not None
    assert first.cors.allows(b"https://shop.example")
    assert second.cache is not None
    assert second.cache.query == frozenset({b"page"})


def with_route(
    rates: object = None, caches: object = None, cors_: object = None, **fields: object
) -> dict[str, object]:
    return {
        "routes": [{"upstream": "a", "prefix": "/", **fields}],
        "upstreams": UPSTREAMS,
        "rates": rates or {},
        "caches": caches or {},
        "cors": cors_ or {},
    }


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"routes": [], "upstreams": {}, "extra": 1}, "extra"),
        ({"routes": [{"upstream": "b", "prefix": "/"}], "upstreams": UPSTREAMS}, "'b'"),
        (
            {"routes": [{"upstream": "a", "prefix": "/", "rate": "x"}], "upstreams": UPSTREAMS},
            "'x'",
        ),
        (
            {"routes": [{"upstream": "a", "prefix": "/", "auht": "none"}], "upstreams": UPSTREAMS},
            "auht",
        ),
        (
            {"routes": [{"upstream": "a", "prefix": "/", "timeout_s": 0}], "upstreams": UPSTREAMS},
            "timeout_s",
        ),
        (with_route(cors="x"), "no cors policy 'x'"),
        (with_route(auth="none", cache="x"), "no cache policy 'x'"),
        (with_route(auth="user", cache="pages", caches={"pages": {}}), "auth: none"),
        (with_route(rates={"r": {"algorithm": "gcra", "slots": 1, "lease_s": 1}}), "capacity"),
        (with_route(rates={"r": {"algorithm": "concurrency", "capacity": 1}}), "slots"),
        (with_route(rates={"r": {"algorithm": "luck", "capacity": 1}}), "rates.r.algorithm"),
        (
            with_route(
                rate="r",
                cost=5,
                rates={
                    "r": {
                        "capacity": 9,
                        "rate_per_s": 1,
                        "plans": {"free": {"capacity": 4, "rate_per_s": 1}},
                    }
                },
            ),
            "costs 5",
        ),
        (with_route(cors_={"s": {"origins": ["null"]}}), "no origin"),
        (with_route(caches={"c": {"headers": ["cookie"]}}), "credential"),
    ],
)
def test_a_wrong_document_is_refused_and_the_place_is_named(
    document: dict[str, object], named: str
) -> None:
    """A misspelt `auth` must not open a door."""
    with pytest.raises(InvalidInput, match=named):
        load_config(document)


def test_a_route_that_names_the_host_goes_before_one_that_names_none() -> None:
    """R4; at other hosts it does not exist, and both know their methods."""
    table = RouteTable(
        [
            Route("a", prefix="/", name="any"),
            Route("a", template="/x", hosts=frozenset({"shop.example"}), name="shop"),
            Route("a", template="/y", hosts=frozenset({"shop.example"}), methods=POST, name="y"),
        ]
    )
    assert table.resolve("GET", ["x"], "shop.example").name == "shop"
    assert table.resolve("GET", ["x"], "other.example").name == "any"
    assert table.resolve("GET", ["y"], "shop.example").name == "any"
    with pytest.raises(Refused) as wrong:
        table.resolve("PUT", ["y"], "shop.example")
    assert wrong.value.headers == ((b"Allow", b"GET, HEAD, POST"),)


POST = frozenset({"POST"})


class Counted(list[str]):
    """Counts how often a segment is looked at: once for each node on the way."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)


def test_ten_thousand_routes_cost_what_ten_cost() -> None:
    """Nodes visited, not time: a miss, a literal, a parameter, a prefix."""
    looks: list[list[int]] = []
    for size in (10, 10_000):
        routes = [Route("a", template=f"/api/v1/s{n}/{{id}}") for n in range(size)]
        table = RouteTable([*routes, Route("a", prefix="/assets")])
        counts: list[int] = []
        for path in ("api/v1/s7/9", "api/v1/s9", "assets/a/b/c", "nothing"):
            segments = Counted(path.split("/"))
            with contextlib.suppress(Refused):
                table.resolve("GET", segments)
            counts.append(segments.looks)
        looks.append(counts)
    assert looks[0] == looks[1]
    assert max(looks[0]) <= 8
