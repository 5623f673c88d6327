"""The route table: which upstream answers a path, and under which conditions.

Theory of operation
    Routes stand in a trie of path segments. A route is a template (`/orders/{id}`, every segment
    must match) or a prefix (`/products`, itself and everything below). Candidates are compared
    segment by segment from the left: a literal goes before a parameter, a route that says more
    goes before a prefix that ended earlier. The first candidate that takes the method wins.

Invariants (tests cite them)
    R1  The order in which routes are declared changes nothing.
    R2  A path that no route matches is 404; one that matches, with another method, is 405 and
        `Allow` names every method that some matching route takes.
    R3  Two routes that could both win the same request are refused when the table is built.
    R4  A route that names the request's host goes before all that name none.

Matching is case-sensitive on normalised paths (see targets.py). GET implies HEAD.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from month1_caching_gateway.gateway.canary import Canary
from month1_caching_gateway.gateway.cors import Cors
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.response_cache import CachePolicy
from scalelab.errors import InvalidInput

Auth = Literal["none", "user", "key", "either"]
PriorityName = Literal["critical", "normal", "sheddable"]


@dataclass(frozen=True, slots=True)
class Route:
    """One rule. Exactly one of `template` and `prefix` is given; both start with '/'.

    upstream: name of the upstream that answers. rate: name of a rate policy, None = unlimited;
    cost: tokens a request takes. timeout_s: from the end of the request to the head of the answer;
    also the longest silence inside an answer, unless `streaming` (events may be far apart).
    websocket: a WebSocket handshake on this route is passed on, and tunnelled when the service
    takes it; websocket_origins: pages that may open one, beside those of the Host itself.
    max_body_bytes: None = the gateway's limit. auth: a token (user), an API key, either of them, or
    nothing; scope: demanded of whom they name. canary: another version of the service, for some.
    cors: which pages' scripts may ask; cache: what may be kept for others, on routes without
    authentication and without a canary only.
    priority: who goes first where the upstream sheds load. hosts: only for requests to these
    names, in lower case without a port; empty = to any that the gateway serves.
    """

    upstream: str
    template: str | None = None
    prefix: str | None = None
    methods: frozenset[str] = frozenset({"GET"})
    auth: Auth = "user"
    scope: str | None = None
    rate: str | None = None
    cost: float = 1.0
    idempotency_key_required: bool = False
    timeout_s: float = 5.0
    streaming: bool = False
    websocket: bool = False
    websocket_origins: frozenset[str] = frozenset()
    max_body_bytes: int | None = None
    canary: Canary | None = None
    cors: Cors | None = None
    cache: CachePolicy | None = None
    priority: PriorityName = "normal"
    hosts: frozenset[str] = frozenset()
    name: str = ""

    def __post_init__(self) -> None:
        if (self.template is None) == (self.prefix is None):
            raise InvalidInput("a route has a template or a prefix", field="template")
        if not self.pattern.startswith("/") or "//" in self.pattern:
            raise InvalidInput(f"{self.pattern!r} is no absolute path", field="template")
        if not self.methods:
            raise InvalidInput(f"route {self.pattern!r} takes no method", field="methods")
        if self.cache is not None and self.auth != "none":
            raise InvalidInput("what is kept for everybody needs `auth: none`", field="cache")
        if self.cache is not None and self.canary is not None:
            raise InvalidInput("one version's answers would be kept for all", field="cache")
        if self.cache is not None and self.hosts:
            raise InvalidInput("kept answers are not told apart by host", field="cache")
        if any(host != host.lower() or not host for host in self.hosts):
            raise InvalidInput("hosts are names in lower case", field="hosts")
        if not self.name:
            label = self.pattern if self.template else self.pattern.rstrip("/") + "/*"
            object.__setattr__(self, "name", label)

    @property
    def pattern(self) -> str:
        """The template or the prefix."""
        return self.template or self.prefix or ""

    def takes(self, method: str) -> bool:
        """GET implies HEAD."""
        return method in self.methods or (method == "HEAD" and "GET" in self.methods)


def _no_routes() -> list[Route]:
    return []


def _no_children() -> dict[str, _Node]:
    return {}


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=_no_children)
    parameter: _Node | None = None
    here: list[Route] = field(default_factory=_no_routes)
    below: list[Route] = field(default_factory=_no_routes)


class RouteTable:
    """A set of routes. Cost of `resolve`: O(segments), however many routes there are.

    Raises InvalidInput if two routes collide (R3).
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: list[Route] = []
        self._root = _Node()
        self._by_host: dict[str, _Node] = {}
        for route in routes:
            self.add(route)

    @property
    def routes(self) -> tuple[Route, ...]:
        """All of them, in the order they were given."""
        return tuple(self._routes)

    @property
    def hosts(self) -> Collection[str]:
        """Every host that some route names."""
        return self._by_host.keys()

    def resolve(self, method: str, segments: Sequence[str], host: str = "") -> Route:
        """The route of a request. Raises Refused: 404 `unknown_route`, 405 `method_not_allowed`."""
        own = self._by_host.get(host)
        if own is not None and (named := _find(own, segments, 0, method)) is not None:
            return named  # R4
        route = _find(self._root, segments, 0, method)
        if route is not None:
            return route
        allowed: set[str] = set()
        for root in (own, self._root) if own is not None else (self._root,):
            for candidate in _candidates(root, segments, 0):
                allowed |= candidate.methods
        if not allowed:
            raise Refused(404, "unknown_route", "there is nothing at this path")
        if "GET" in allowed:
            allowed.add("HEAD")
        names = ", ".join(sorted(allowed)).encode()
        raise Refused(
            405,
            "method_not_allowed",
            "this path does not take this method",
            headers=((b"Allow", names),),
        )

    def add(self, route: Route) -> None:
        """One route more; only while the table is being built. Raises InvalidInput (R3)."""
        for host in route.hosts:
            _put(self._by_host.setdefault(host, _Node()), route)
        if not route.hosts:
            _put(self._root, route)
        self._routes.append(route)


def _put(node: _Node, route: Route) -> None:
    for segment in _pattern_segments(route):
        if segment.startswith("{") and segment.endswith("}"):
            node.parameter = node.parameter or _Node()
            node = node.parameter
        else:
            node = node.literal.setdefault(segment, _Node())
    siblings = node.here if route.template is not None else node.below
    implied = {"HEAD"} if route.takes("HEAD") else set[str]()
    for other in siblings:
        if any(other.takes(method) for method in route.methods | implied):
            raise InvalidInput(f"two routes for {route.pattern!r} take the same method")
    siblings.append(route)


def _pattern_segments(route: Route) -> list[str]:
    pattern = route.pattern if route.template is not None else route.pattern.rstrip("/")
    segments = pattern[1:].split("/") if pattern else []
    for segment in segments:
        if segment != "{" + segment[1:-1] + "}" and ("{" in segment or "}" in segment):
            raise InvalidInput(f"{segment!r}: a parameter is a whole segment", field="template")
    return segments


def _find(node: _Node, segments: Sequence[str], at: int, method: str) -> Route | None:
    """The first of `_candidates` that takes `method`; apart from it, because each request asks."""
    if at == len(segments):
        found = _taking(node.here, method)
    else:
        segment, found = segments[at], None
        child = node.literal.get(segment)
        if child is not None:
            found = _find(child, segments, at + 1, method)
        if found is None and node.parameter is not None and segment:
            found = _find(node.parameter, segments, at + 1, method)
    return found or _taking(node.below, method)


def _taking(routes: Sequence[Route], method: str) -> Route | None:
    for route in routes:
        if route.takes(method):
            return route
    return None


def _candidates(node: _Node, segments: Sequence[str], at: int) -> Iterator[Route]:
    """Every matching route, the most specific first."""
    if at == len(segments):
        yield from node.here
    else:
        segment = segments[at]
        child = node.literal.get(segment)
        if child is not None:
            yield from _candidates(child, segments, at + 1)
        if node.parameter is not None and segment:
            yield from _candidates(node.parameter, segments, at + 1)
    yield from node.below
