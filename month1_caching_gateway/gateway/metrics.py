"""Rate, errors and duration per route and upstream, counted in plain integers.

A request costs a few additions; the Prometheus text is made only when somebody scrapes. Labels are
route names, methods and status codes: all from the configuration or from a fixed set, so a caller
cannot grow the number of series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = (*(str(bound) for bound in _BOUNDS_S), "+Inf")


Gauge = tuple[str, str, Callable[[], Mapping[str, float]]]
"""Help text, label name, and how to read the present value of each label."""


class _Timings:
    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        return list(zip(_LABELS, accumulate(self.buckets), strict=True))


class GatewayMetrics(Collector):
    """Counts of one gateway. Register it with the telemetry's registry.

    gauges: by metric name.
    """

    def __init__(self, gauges: Mapping[str, Gauge]) -> None:
        self._gauges = gauges
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, _Timings] = {}
        self._upstreams: dict[str, _Timings] = {}
        self._events: dict[str, int] = {}
        self._choices: dict[tuple[str, str, str], int] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request has ended."""
        key = (route, method, status)
        if key in self._requests:
            self._requests[key] += 1
        else:
            self._requests[key] = 1
        timings = self._durations.get(route)
        if timings is None:
            timings = self._durations[route] = _Timings()
        timings.buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        timings.sum_s += seconds

    def upstream(self, name: str, seconds: float) -> None:
        """An upstream's head came, so many seconds after the request was sent."""
        timings = self._upstreams.get(name)
        if timings is None:
            timings = self._upstreams[name] = _Timings()
        timings.buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        timings.sum_s += seconds

    def choice(self, route: str, upstream: str, why: str) -> None:
        """A route with a canary sent a request to one of its two versions."""
        key = (route, upstream, why)
        self._choices[key] = self._choices.get(key, 0) + 1

    def event(self, kind: str) -> None:
        """Something rare: a retry, a slow client closed, a refused connection. kind: a constant."""
        self._events[kind] = self._events.get(kind, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for."""
        requests = CounterMetricFamily(
            "gateway_requests", "Requests ended.", labels=["route", "method", "status"]
        )
        for (route, method, status), count in tuple(self._requests.items()):
            requests.add_metric([route, method, str(status)], count)
        yield requests
        yield _histogram(
            "gateway_request_duration_seconds", "Whole request.", "route", self._durations
        )
        yield _histogram(
            "gateway_upstream_duration_seconds",
            "From the request sent to the head of the answer.",
            "upstream",
            self._upstreams,
        )
        events = CounterMetricFamily("gateway_events", "Rare events.", labels=["kind"])
        for kind, count in tuple(self._events.items()):
            events.add_metric([kind], count)
        yield events
        choices = CounterMetricFamily(
            "gateway_canary_choices",
            "Requests of routes with a canary, by version and the rule that chose it.",
            labels=["route", "upstream", "why"],
        )
        for labels, count in tuple(self._choices.items()):
            choices.add_metric(labels, count)
        yield choices
        for name, (text, label, read) in self._gauges.items():
            gauge = GaugeMetricFamily(name, text, labels=[label])
            for value, number in read().items():
                gauge.add_metric([value], number)
            yield gauge


def _histogram(
    name: str, text: str, label: str, timings: Mapping[str, _Timings]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, timing in tuple(timings.items()):
        family.add_metric([value], timing.cumulative(), timing.sum_s)
    return family
