"""Spans as JSON lines in a file: one object a line, one write a batch.

The file is opened for append and each batch is one write call, so several processes may share
it without tearing a line. Readers ignore members they do not know.
Members: trace_id, span_id, parent_span_id (null at the root), name, kind, service, start_ns and
end_ns (Unix time), duration_ms, status, attributes, events, links (span ids with trace ids).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext


class FileSpanExporter(SpanExporter):
    """Appends to `path`; the directory is made if missing. OSError at opening travels up."""

    def __init__(self, path: Path, service: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._service = service
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = [json.dumps(span_record(span, self._service), default=str) for span in spans]
        data = ("\n".join(lines) + "\n").encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def span_record(span: ReadableSpan, service: str) -> dict[str, object]:
    """One ended span as a plain object."""
    start_ns, end_ns = span.start_time or 0, span.end_time or 0
    return {
        **_ids(span.get_span_context()),
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name.lower(),
        "service": service,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "duration_ms": round((end_ns - start_ns) / 1e6, 3),
        "status": span.status.status_code.name.lower(),
        "attributes": dict(span.attributes or {}),
        "events": [
            {"name": e.name, "at_ns": e.timestamp, "attributes": dict(e.attributes or {})}
            for e in span.events
        ],
        "links": [_ids(link.context) for link in span.links],
    }


def _ids(context: SpanContext | None) -> dict[str, object]:
    if context is None:
        return {"trace_id": None, "span_id": None}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
