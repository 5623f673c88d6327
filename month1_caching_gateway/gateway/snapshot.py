"""What is in force: routes, services and checks as one immutable value, swapped as a whole.

Theory of operation
    A configuration becomes `Rules`: checked values, no connection yet. The gateway turns rules into
    a `Snapshot` and puts it in the place of the old one in a single assignment. An exchange takes
    the snapshot that is in force when its head has been read and keeps it to its end, so one
    request never sees two configurations.

Invariants (tests cite them)
    S1  A snapshot never changes. What a request began under is what it ends under.
    S2  A service whose description is equal before and after keeps its connections, its queue and
        its breaker.
    S3  A service that was removed or changed is closed when no exchange can reach it any more, and
        not before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from month1_caching_gateway.gateway.admission import Admission, Rates, check_costs
from month1_caching_gateway.gateway.routes import Route, RouteTable
from month1_caching_gateway.gateway.settings import Upstream
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Rules:
    """A configuration as checked values. revision: tells two documents apart, "" for none.

    Raises InvalidInput for a route that names what does not exist, costs more than its policy can
    ever hold, or collides with another (R3).
    """

    routes: tuple[Route, ...]
    upstreams: tuple[Upstream, ...]
    rates: Rates
    revision: str = ""

    def __post_init__(self) -> None:
        check_names(self.routes, {upstream.name for upstream in self.upstreams}, self.rates)
        RouteTable(self.routes)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Rules, and what was built from them. groups: by the name of the upstream."""

    rules: Rules
    table: RouteTable
    groups: Mapping[str, UpstreamGroup]
    admission: Admission


class Groups:
    """The services in force, and those that are only finishing. make: builds one, unconnected."""

    def __init__(self, make: Callable[[Upstream], UpstreamGroup]) -> None:
        self._make = make
        self._current: dict[str, tuple[Upstream, UpstreamGroup]] = {}
        self._retired: list[UpstreamGroup] = []

    @property
    def current(self) -> dict[str, UpstreamGroup]:
        """By name."""
        return {name: group for name, (_, group) in self._current.items()}

    @property
    def retired(self) -> int:
        """Removed or replaced, and still reached by some exchange."""
        return len(self._retired)

    def adopt(self, upstreams: Iterable[Upstream]) -> dict[str, UpstreamGroup]:
        """The groups of `upstreams`: those that did not change are the same objects (S2)."""
        before, self._current = self._current, {}
        for upstream in upstreams:
            old = before.get(upstream.name)
            if old is not None and old[0] == upstream:
                self._current[upstream.name] = before.pop(upstream.name)
            else:
                self._current[upstream.name] = (upstream, self._make(upstream))
        self._retired += [group for _, group in before.values()]
        return self.current

    def close_unreachable(self, in_use: Callable[[], Collection[Snapshot]]) -> None:
        """Close the retired groups that none of these snapshots holds (S3)."""
        if not self._retired:
            return
        reachable = {id(group) for one in in_use() for group in one.groups.values()}
        for group in [one for one in self._retired if id(one) not in reachable]:
            group.close()
            self._retired.remove(group)

    def sweep(self, now_s: float) -> None:
        """Let every group close what was idle for too long."""
        for _, group in self._current.values():
            group.sweep(now_s)
        for group in self._retired:
            group.sweep(now_s)

    def close(self) -> None:
        """Drop every connection of every group."""
        for group in (*self.current.values(), *self._retired):
            group.close()
        self._retired.clear()


def check_names(routes: Iterable[Route], upstreams: Collection[str], rates: Rates) -> None:
    """Raises InvalidInput unless all that the routes name exists and can be paid."""
    for route in routes:
        if route.upstream not in upstreams:
            raise InvalidInput(
                f"route {route.name} names no known upstream: {route.upstream!r}", field="upstream"
            )
    check_costs(routes, rates)
