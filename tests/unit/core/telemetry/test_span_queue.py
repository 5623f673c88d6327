"""The span queue: bounded, counted, and never in the way of what it observes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from scalelab.telemetry.span_queue import BATCH_LIMIT, SpanQueue


class Exporter(SpanExporter):
    def __init__(self) -> None:
        self.names: list[str] = []
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.gate.wait(10)
        if isinstance(self.result, Exception):
            raise self.result
        self.names += [span.name for span in spans]
        self.batches.append(len(spans))
        return self.result

    def shutdown(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, queue_limit: int = 4096) -> None:
        self.exporter = Exporter()
        self.registry = CollectorRegistry()
        self.queue = SpanQueue(self.exporter, self.registry, queue_limit=queue_limit)
        provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
        provider.add_span_processor(self.queue)
        self.tracer = provider.get_tracer("test")

    def spans(self, count: int) -> None:
        for n in range(count):
            self.tracer.start_span(f"s{n}").end()

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_every_span_is_exported_once_and_in_order() -> None:
    """In batches of bounded size, by the time shutdown returns."""
    rig = Rig()
    rig.spans(BATCH_LIMIT * 2 + 7)
    rig.queue.shutdown()
    assert rig.exporter.names == [f"s{n}" for n in range(BATCH_LIMIT * 2 + 7)]
    assert max(rig.exporter.batches) <= BATCH_LIMIT
    assert rig.count("scalelab_spans_exported_total") == BATCH_LIMIT * 2 + 7
    assert rig.exporter.closed


def test_full_queue_drops_counts_and_does_not_block() -> None:
    """A stuck exporter costs spans, not requests."""
    rig = Rig(queue_limit=10)
    rig.exporter.gate.clear()
    rig.spans(1)
    assert rig.exporter.entered.wait(10)
    rig.spans(25)
    assert rig.count("scalelab_spans_dropped_total", reason="queue_full") == 15
    rig.exporter.gate.set()
    rig.queue.shutdown()
    assert len(rig.exporter.names) == 11


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, OSError("full"), KeyError("x")])
def test_failed_batches_are_counted_and_the_thread_lives_on(
    result: SpanExportResult | Exception,
) -> None:
    """Whatever an exporter does, later spans get their chance."""
    rig = Rig()
    rig.exporter.result = result
    rig.spans(3)
    assert rig.queue.force_flush(10_000)
    assert rig.count("scalelab_spans_dropped_total", reason="export_failed") == 3
    rig.exporter.result = SpanExportResult.SUCCESS
    rig.spans(2)
    assert rig.queue.force_flush(10_000)
    assert rig.count("scalelab_spans_exported_total") == 2
    rig.queue.shutdown()


def test_spans_after_shutdown_are_dropped_and_counted() -> None:
    """Nothing is queued that no thread will take; a second shutdown does nothing."""
    rig = Rig()
    rig.queue.shutdown()
    rig.queue.shutdown()
    rig.spans(2)
    assert rig.count("scalelab_spans_dropped_total", reason="queue_full") == 2
    assert rig.exporter.names == []
