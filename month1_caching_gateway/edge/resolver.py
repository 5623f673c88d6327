"""The client's side of edge points: measure them, use the near one, leave one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import aiohttp

from month1_caching_gateway.edge.nearest import EdgePoint, Seen, answered, failed, nearest
from scalelab.clock import Clock

HEALTH_PATH = "/edge/health"


class EdgeResolver:
    """Chooses among edge points. Owned by one event loop; `session` stays the caller's.

    regions: see `nearest`. timeout_s: for one measurement; an edge that takes longer has failed.
    """

    def __init__(
        self,
        points: Sequence[EdgePoint],
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        regions: Sequence[str] = (),
        timeout_s: float = 2.0,
    ) -> None:
        self._points = tuple(points)
        self._session = session
        self._clock = clock
        self._regions = tuple(regions)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._seen: dict[str, Seen] = {}
        self._current: str | None = None

    @property
    def seen(self) -> Mapping[str, Seen]:
        """What is known of each edge, by name."""
        return dict(self._seen)

    async def measure(self) -> None:
        """One round trip to each edge, all at once; on a connection that is open already."""
        await asyncio.gather(*(self._measure(point) for point in self._points))

    def pick(self) -> EdgePoint:
        """The edge to use now. Raises Unavailable (`no_edge`)."""
        chosen = nearest(self._points, self._seen, current=self._current, regions=self._regions)
        self._current = chosen.name
        return chosen

    def report_failure(self, point: EdgePoint) -> None:
        """A request to this edge was lost: it counts like a failed measurement."""
        self._seen[point.name] = failed(self._seen.get(point.name, Seen()))

    async def _measure(self, point: EdgePoint) -> None:
        try:
            await self._ask(point)  # opens the connection, which takes round trips of its own
            began_s = self._clock.monotonic_s()
            await self._ask(point)
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.report_failure(point)
        else:
            took_s = self._clock.monotonic_s() - began_s
            self._seen[point.name] = answered(self._seen.get(point.name, Seen()), took_s)

    async def _ask(self, point: EdgePoint) -> None:
        async with self._session.get(
            point.url + HEALTH_PATH, timeout=self._timeout, raise_for_status=True
        ) as answer:
            await answer.read()
