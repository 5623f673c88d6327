"""Rules that nginx cannot keep are refused, and the others stand in the order of our own table."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.edge import NginxGateway, gateway_config
from month1_caching_gateway.edge.nginx_gateway import path_pattern
from month1_caching_gateway.gateway import Endpoint, Route, RouteTable, Rules, Upstream
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.ratelimit import Policy
from scalelab.errors import InvalidInput

UPSTREAMS = (Upstream("app", (Endpoint("127.0.0.1", 9),)),)
SEGMENT = st.sampled_from(["a", "b", "{x}"])
PATTERN = st.lists(SEGMENT, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
METHODS = st.sampled_from([frozenset({"GET"}), frozenset({"PUT"}), frozenset({"GET", "PUT"})])
ROUTE = st.builds(
    lambda pattern, exact, methods: Route(
        "app",
        template=pattern if exact else None,
        prefix=None if exact else pattern,
        methods=methods,
        auth="none",
    ),
    PATTERN,
    st.booleans(),
    METHODS,
)
PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


def config(*routes: Route, rates: dict[str, Policy] | None = None) -> str:
    """The configuration of these routes."""
    return gateway_config(
        NginxGateway(Rules(routes, UPSTREAMS, rates or {}), ("h",), "127.0.0.1:1")
    )


def routed(text: str, method: str, path: str) -> str:
    """The name that nginx's map would give: its first line that fits."""
    block = text.partition('map "$request_method $uri" $route {')[2].partition("\n}")[0]
    names = dict(re.findall(r'^  (r\d+) "(.*)";$', text, re.MULTILINE))
    for pattern, number in re.findall(r'"~(.*)" (r\d+);', block):
        if re.search(pattern, f"{method} {path}"):
            return names[number]
    return ""


@given(st.lists(ROUTE, min_size=1, max_size=6), PATHS, st.sampled_from(["GET", "PUT", "HEAD"]))
def test_nginx_chooses_the_route_that_our_table_chooses(
    routes: list[Route], segments: list[str], method: str
) -> None:
    """For any routes that our table accepts, and any path."""
    try:
        table = RouteTable(routes)
    except InvalidInput:
        return
    try:
        ours = table.resolve(method, segments).name
    except Refused:
        ours = ""
    assert routed(config(*routes), method, "/" + "/".join(segments)) == ours


@pytest.mark.parametrize(
    ("route", "rates"),
    [
        (Route("app", template="/a", rate="r", cost=2.0), {"r": Policy(5, 1.0)}),
        (Route("app", template="/a", rate="r"), {"r": Policy(5, 0.001)}),
        (Route("app", template="/a", auth="key"), {}),
        (Route("app", template="/a", websocket=True), {}),
        (Route("app", template="/a", hosts=frozenset({"h"})), {}),
        (Route("app", template='/a"; return 200'), {}),
        (Route("app", template="/a b"), {}),
        (Route("app", template="/a", scope="x y"), {}),
        (Route("app", template="/a", name='x" y'), {}),
    ],
    ids=["cost", "slow-rate", "api-key", "websocket", "hosts", "quote", "space", "scope", "name"],
)
def test_what_nginx_cannot_say_is_refused(route: Route, rates: dict[str, Policy]) -> None:
    """Not weakened in silence, and not written into the file as it is."""
    with pytest.raises(InvalidInput):
        config(route, rates=rates)


def test_a_prefix_is_itself_and_everything_below() -> None:
    """And not what only begins with the same letters."""
    pattern = re.compile(path_pattern(Route("app", prefix="/files/")) + r"\Z")
    assert all(pattern.match(path) for path in ("/files", "/files/", "/files/a/b"))
    assert not pattern.match("/filesystem")
