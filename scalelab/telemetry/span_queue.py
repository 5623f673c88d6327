"""A bounded queue between the code that ends a span and the thread that exports it.

The request path appends to a deque and goes on. A full queue drops the new span and counts it:
telemetry never slows down or fails what it observes. One daemon thread exports in batches.
"""

from __future__ import annotations

import threading
from collections import deque

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Counter

QUEUE_LIMIT = 4096
BATCH_LIMIT = 512
FLUSH_INTERVAL_S = 0.5
SHUTDOWN_DEADLINE_S = 5.0


class SpanQueue(SpanProcessor):
    """Collects ended, sampled spans; exports up to BATCH_LIMIT at a time.

    Metrics: scalelab_spans_exported_total, scalelab_spans_dropped_total{reason} with reason
    queue_full (bound reached) or export_failed (the exporter refused a batch).
    """

    def __init__(
        self, exporter: SpanExporter, registry: CollectorRegistry, *, queue_limit: int = QUEUE_LIMIT
    ) -> None:
        self._exporter = exporter
        self._queue_limit = queue_limit
        self._spans: deque[ReadableSpan] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._busy = False
        self._exported = Counter(
            "scalelab_spans_exported", "Spans handed to the exporter.", registry=registry
        )
        dropped = Counter(
            "scalelab_spans_dropped", "Spans lost, by reason.", ["reason"], registry=registry
        )
        self._queue_full = dropped.labels("queue_full")
        self._export_failed = dropped.labels("export_failed")
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do: a span counts when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        if self._stopping or len(self._spans) >= self._queue_limit:
            self._queue_full.inc()
            return
        self._spans.append(span)
        if len(self._spans) >= BATCH_LIMIT:
            with self._wake:
                self._wake.notify_all()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wake the thread and wait until nothing is queued or in export; False on time-out."""
        with self._wake:
            self._wake.notify_all()
            return self._wake.wait_for(
                lambda: not self._spans and not self._busy, timeout_millis / 1000
            )

    def shutdown(self) -> None:
        """Export what is queued, for at most SHUTDOWN_DEADLINE_S, then stop the thread."""
        with self._wake:
            if self._stopping:
                return
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(SHUTDOWN_DEADLINE_S)
        self._exporter.shutdown()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._spans and not self._stopping:
                    self._wake.wait(FLUSH_INTERVAL_S)
                if not self._spans and self._stopping:
                    return
                count = min(len(self._spans), BATCH_LIMIT)
                batch = [self._spans.popleft() for _ in range(count)]
                self._busy = bool(batch)
            if batch:
                self._export(batch)
            with self._wake:
                self._busy = False
                self._wake.notify_all()

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            result = self._exporter.export(batch)
        except Exception:  # noqa: BLE001 - an exporter may raise anything; the thread must live on
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._exported.inc(len(batch))
        else:
            self._export_failed.inc(len(batch))
