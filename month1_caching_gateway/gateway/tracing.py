"""The trace of one request: an id that always travels, a span that exists only when sampled.

Making a span that nobody keeps costs more than forwarding the request's headers, so the coin is
tossed first. A caller's valid `traceparent` is continued with its own decision; a malformed one
counts as absent. Build the gateway's telemetry with sample_ratio 1.0 and set `trace_ratio` in the
gateway's settings: two coins would multiply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from opentelemetry.trace import Span, SpanContext, Status, StatusCode

from scalelab.telemetry import Telemetry, parse, render


@dataclass(slots=True)
class Trace:
    """trace_id: 32 hex digits. traceparent, tracestate: as sent to the service."""

    trace_id: str
    traceparent: bytes
    tracestate: bytes
    span: Span | None

    def end(self, route: str, method: str, status: int) -> None:
        """Close the span, if there is one. status: 5xx marks it as an error."""
        if self.span is None:
            return
        self.span.update_name(f"{method} {route}")
        self.span.set_attribute("http.request.method", method)
        self.span.set_attribute("http.route", route)
        self.span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()


class Tracing:
    """Begins traces. random: for the coin; seeded in tests."""

    def __init__(self, telemetry: Telemetry, ratio: float, random: Random) -> None:
        self._telemetry = telemetry
        self._ratio = ratio
        self._random = random

    def begin(self, headers: Mapping[bytes, bytes], digits: str) -> Trace | None:
        """headers: may hold traceparent and tracestate. digits: 32 of them, for a new trace.

        None for most requests: a new trace that nobody keeps; see `unkept`.
        """
        given = headers.get(b"traceparent")
        parent = None
        tracestate = b""
        if given is not None:
            tracestate = headers.get(b"tracestate", b"")
            parent = parse(given.decode("latin-1"), tracestate.decode("latin-1"))
        elif self._random.random() >= self._ratio:
            return None
        sampled = parent.trace_flags.sampled if parent else given is None or self._toss()
        if sampled and self._telemetry.recording:
            return self._recorded(parent)
        trace_id = f"{parent.trace_id:032x}" if parent else digits
        line = f"00-{trace_id}-{digits[16:]}-{'01' if sampled else '00'}".encode("ascii")
        return Trace(trace_id, line, tracestate if parent else b"", None)

    def _toss(self) -> bool:
        return self._random.random() < self._ratio

    def _recorded(self, parent: SpanContext | None) -> Trace:
        span = self._telemetry.start_server_span("gateway", parent)
        own = span.get_span_context()
        state = own.trace_state.to_header().encode("latin-1") if own.trace_state else b""
        return Trace(f"{own.trace_id:032x}", render(own).encode("ascii"), state, span)


def unkept(digits: str) -> bytes:
    """The traceparent of a new trace that nobody keeps."""
    return b"00-%b-%b-00" % (digits.encode("ascii"), digits[16:].encode("ascii"))
