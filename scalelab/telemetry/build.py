"""The telemetry of one service: log, metrics registry and tracer, without any global state.

Several services can live in one process, each with its own. `none` uses the API's pass-through
tracer: trace ids and the sampling flag travel on, no span is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import getrandbits
from typing import TextIO

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    TracerProvider,
    set_span_in_context,
)
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from scalelab.telemetry.log import Log, build_log
from scalelab.telemetry.settings import TelemetrySettings, export_target
from scalelab.telemetry.span_queue import SpanQueue

_INSTRUMENTATION = "scalelab"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Everything a service reports through. Make it with `build_telemetry`, end it once."""

    service: str
    registry: CollectorRegistry
    tracer: Tracer
    provider: TracerProvider
    log: Log
    recording: bool

    def start_server_span(self, name: str, parent: SpanContext | None) -> Span:
        """A span of kind server under `parent`, or the root of a new trace; not made current.

        Nothing is recorded where tracing is off or the caller decided against sampling; the
        trace id lives on all the same.
        """
        if not self.recording or (parent is not None and not parent.trace_flags.sampled):
            return NonRecordingSpan(_continued(parent))
        context = None if parent is None else set_span_in_context(NonRecordingSpan(parent))
        return self.tracer.start_span(name, context, kind=SpanKind.SERVER)

    def shutdown(self) -> None:
        """Flush spans (at most 5 s) and stop the export thread. Blocking; safe to call twice."""
        if isinstance(self.provider, SdkTracerProvider):
            self.provider.shutdown()


def build_telemetry(settings: TelemetrySettings, *, stream: TextIO | None = None) -> Telemetry:
    """Build log, registry and tracer. stream: where log lines go; standard output by default.

    Raises OSError if the file of a "file:" export cannot be opened.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    provider, recording = _provider(settings, registry)
    return Telemetry(
        service=settings.service,
        registry=registry,
        tracer=provider.get_tracer(_INSTRUMENTATION),
        provider=provider,
        log=build_log(settings.service, settings.log_level, stream),
        recording=recording,
    )


def _provider(
    settings: TelemetrySettings, registry: CollectorRegistry
) -> tuple[TracerProvider, bool]:
    exporter = _exporter(settings)
    if exporter is None:
        return NoOpTracerProvider(), False
    provider = SdkTracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        resource=Resource({"service.name": settings.service}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SpanQueue(exporter, registry))
    return provider, True


def _exporter(settings: TelemetrySettings) -> SpanExporter | None:
    kind, target = export_target(settings.trace_export)
    if kind == "none":
        return None
    if kind == "file":
        from scalelab.telemetry.file_exporter import FileSpanExporter

        return FileSpanExporter(Path(target), settings.service)
    # Loaded only where asked for: protobuf and requests cost 20 MiB and 0.2 s.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=target, timeout=3)


def _continued(parent: SpanContext | None) -> SpanContext:
    span_id = getrandbits(64) or 1
    if parent is None:
        return SpanContext(getrandbits(128) or 1, span_id, is_remote=False)
    return SpanContext(
        parent.trace_id,
        span_id,
        is_remote=False,
        trace_flags=parent.trace_flags,
        trace_state=parent.trace_state,
    )
