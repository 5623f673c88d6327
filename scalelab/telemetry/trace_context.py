"""W3C Trace Context: the `traceparent` and `tracestate` headers, parsed and written by hand.

Theory of operation
    `00-<32 hex trace id>-<16 hex span id>-<2 hex flags>`. A header that breaks the rule counts
    as absent: the request starts a trace of its own, it never fails. Unknown later versions are
    read by their first four fields, as the recommendation asks; version ff is invalid.

Absent on purpose: baggage. It crosses trust boundaries and nothing here needs it.
Source: W3C Trace Context, Recommendation of 23 November 2021, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

TRACESTATE_LIMIT = 512
"""Characters of tracestate that are passed on; a longer one is dropped whole."""

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16


def parse(traceparent: str | None, tracestate: str | None = None) -> SpanContext | None:
    """The remote parent, or None where the header is absent or malformed. Never raises."""
    if traceparent is None or len(traceparent) > 256:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    if match["trace"] == _ZERO_TRACE or match["span"] == _ZERO_SPAN:
        return None
    state = None
    if tracestate and len(tracestate) <= TRACESTATE_LIMIT:
        state = TraceState.from_header([tracestate])
    return SpanContext(
        int(match["trace"], 16),
        int(match["span"], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match["flags"], 16) & 0x03),
        trace_state=state,
    )


def render(context: SpanContext) -> str:
    """The `traceparent` value that names `context` as the parent."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"


def inject(headers: MutableMapping[str, str]) -> None:
    """Write the current span into `headers` as traceparent (and tracestate); none: no change."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return
    headers["traceparent"] = render(context)
    if context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()


def extract(headers: Mapping[str, str]) -> Context:
    """The context a consumer continues: that of the sender, or an empty one.

    headers: lower-case names, as Kafka and ASGI deliver them. Never raises.
    """
    parent = parse(headers.get("traceparent"), headers.get("tracestate"))
    if parent is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(parent), Context())
