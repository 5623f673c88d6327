"""A service's telemetry: no globals, honest sampling, traces that arrive."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import set_span_in_context, use_span

from scalelab.errors import InvalidInput
from scalelab.telemetry import TelemetrySettings, build_telemetry, inject, parse

SAMPLED = parse(f"00-{'a' * 32}-{'b' * 16}-01")
UNSAMPLED = parse(f"00-{'a' * 32}-{'b' * 16}-00")


def spans_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("service", {"service": ""}),
        ("log_level", {"log_level": "loud"}),
        ("sample_ratio", {"sample_ratio": 1.5}),
        ("trace_export", {"trace_export": "file:"}),
        ("trace_export", {"trace_export": "otlp:localhost"}),
        ("trace_export", {"trace_export": "jaeger:http://x"}),
    ],
)
def test_settings_that_mean_nothing_are_refused_at_start(
    field: str, changes: dict[str, Any]
) -> None:
    """With the name of the field, not somewhere later."""
    with pytest.raises(InvalidInput) as caught:
        TelemetrySettings(**{"service": "s", **changes})
    assert caught.value.field == field


def test_no_global_provider_is_set_and_two_services_keep_apart(tmp_path: Path) -> None:
    """A monolith holds several; a library that looks for a global one finds none."""
    before = trace.get_tracer_provider()
    one = build_telemetry(TelemetrySettings("one", trace_export=f"file:{tmp_path}/one"))
    two = build_telemetry(TelemetrySettings("two", trace_export=f"file:{tmp_path}/two"))
    assert trace.get_tracer_provider() is before
    one.start_server_span("a", None).end()
    two.start_server_span("b", None).end()
    one.shutdown()
    two.shutdown()
    assert [(s["service"], s["name"]) for s in spans_in(tmp_path / "one")] == [("one", "a")]
    assert [(s["service"], s["name"]) for s in spans_in(tmp_path / "two")] == [("two", "b")]
    assert one.registry is not two.registry


def test_process_figures_are_in_the_registry() -> None:
    """CPU seconds, resident memory and open files of the process, for saturation."""
    registry = build_telemetry(TelemetrySettings("s")).registry
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert registry.get_sample_value(name) is not None


@pytest.mark.parametrize("parent", [SAMPLED, UNSAMPLED, None], ids=["sampled", "unsampled", "root"])
def test_without_export_ids_and_decision_still_travel(parent: Any) -> None:
    """A service that keeps no spans must not cut the trace of those that do."""
    telemetry = build_telemetry(TelemetrySettings("s"))
    span = telemetry.start_server_span("a", parent)
    context = span.get_span_context()
    assert not span.is_recording()
    assert context.is_valid
    headers: dict[str, str] = {}
    with use_span(span), telemetry.tracer.start_as_current_span("inner"):
        inject(headers)
    sent = parse(headers["traceparent"])
    assert sent is not None
    assert sent.trace_id == context.trace_id
    if parent is not None:
        assert sent.trace_id == parent.trace_id
        assert sent.trace_flags.sampled == parent.trace_flags.sampled


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_decision_of_the_caller_beats_the_ratio(tmp_path: Path, ratio: float) -> None:
    """Half a trace is worth nothing: who began it decides."""
    path = tmp_path / "spans"
    telemetry = build_telemetry(
        TelemetrySettings("s", trace_export=f"file:{path}", sample_ratio=ratio)
    )
    for name, parent in (("kept", SAMPLED), ("left", UNSAMPLED), ("root", None)):
        span = telemetry.start_server_span(name, parent)
        with telemetry.tracer.start_as_current_span("child", set_span_in_context(span)):
            pass
        span.end()
    telemetry.shutdown()
    names = [span["name"] for span in spans_in(path)]
    assert names == ["child", "kept"] + (["child", "root"] if ratio else [])


def test_ratio_keeps_about_that_share_of_new_traces(tmp_path: Path) -> None:
    """2,000 draws at 0.3: outside 450..750 has a probability below one in a billion."""
    path = tmp_path / "spans"
    settings = TelemetrySettings("s", trace_export=f"file:{path}", sample_ratio=0.3)
    telemetry = build_telemetry(settings)
    for _ in range(2000):
        telemetry.start_server_span("a", None).end()
    telemetry.shutdown()
    assert 450 <= len(spans_in(path)) <= 750


def test_span_line_tells_the_whole_story(tmp_path: Path) -> None:
    """Ids, parent, times, attributes, events and status, in one object a line."""
    path = tmp_path / "deep" / "spans"
    telemetry = build_telemetry(TelemetrySettings("s", trace_export=f"file:{path}"))
    span = telemetry.start_server_span("GET /x", SAMPLED)
    span.set_attribute("http.response.status_code", 500)
    span.record_exception(KeyError("k"))
    span.set_status(trace.StatusCode.ERROR)
    span.end()
    telemetry.shutdown()
    (line,) = spans_in(path)
    assert (line["trace_id"], line["parent_span_id"]) == ("a" * 32, "b" * 16)
    assert (line["name"], line["kind"], line["status"]) == ("GET /x", "server", "error")
    assert line["attributes"] == {"http.response.status_code": 500}
    assert line["events"][0]["attributes"]["exception.type"] == "KeyError"
    assert line["end_ns"] >= line["start_ns"] > 0


def test_processes_may_share_a_file(tmp_path: Path) -> None:
    """Appended batches do not tear each other's lines."""
    path = tmp_path / "spans"
    writers = [
        build_telemetry(TelemetrySettings(f"s{n}", trace_export=f"file:{path}")) for n in range(4)
    ]
    for n in range(500):
        writers[n % 4].start_server_span(f"span {n}", None).end()
    for writer in writers:
        writer.shutdown()
    assert len(spans_in(path)) == 500


class Collector(ThreadingHTTPServer):
    """A real HTTP server that reads OTLP over protobuf."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.requests: list[ExportTraceServiceRequest] = []


class CollectorHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_otlp_reaches_a_collector(collector: Collector) -> None:
    """Over HTTP, with the service's name, before shutdown returns."""
    url = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    telemetry = build_telemetry(TelemetrySettings("shop", trace_export=f"otlp:{url}"))
    telemetry.start_server_span("GET /x", SAMPLED).end()
    telemetry.shutdown()
    (request,) = collector.requests
    (resource,) = request.resource_spans
    assert {a.key: a.value.string_value for a in resource.resource.attributes} == {
        "service.name": "shop"
    }
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("GET /x", "a" * 32)
