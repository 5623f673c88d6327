"""W3C trace context: what is taken, what is passed on, what counts as absent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from scalelab.telemetry import extract, inject, parse, render

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@given(
    st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.sampled_from([0x00, 0x01, 0x02, 0x03])
)
def test_what_is_written_is_read_back(trace_id: int, span_id: int, flags: int) -> None:
    """Ids and flags survive a hop, leading zeros included."""
    context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))
    text = render(context)
    parsed = parse(text)
    assert len(text) == 55
    assert parsed is not None
    assert (parsed.trace_id, parsed.span_id, parsed.trace_flags) == (trace_id, span_id, flags)
    assert parsed.is_remote


@given(st.text(max_size=300), st.text(max_size=600))
def test_any_text_is_a_parent_or_none(traceparent: str, tracestate: str) -> None:
    """Never an exception."""
    parse(traceparent, tracestate)
    parse(f"00-{TRACE}-{SPAN}-01", tracestate)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-x",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01" + "-x" * 500,
    ],
)
def test_malformed_headers_count_as_absent(header: str | None) -> None:
    """The recommendation's examples of what must be ignored."""
    assert parse(header) is None


def test_later_version_is_read_by_its_first_fields() -> None:
    """A version this code does not know may add fields at the end."""
    parsed = parse(f"cc-{TRACE}-{SPAN}-01-what-comes-later")
    assert parsed is not None
    assert f"{parsed.trace_id:032x}" == TRACE


def test_current_span_travels_through_headers() -> None:
    """inject on one side, extract on the other: same trace, that span as parent."""
    context = SpanContext(int(TRACE, 16), int(SPAN, 16), False, TraceFlags(1))
    headers: dict[str, str] = {}
    with use_span(NonRecordingSpan(context)):
        inject(headers)
    assert headers == {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    remote = trace.get_current_span(extract(headers)).get_span_context()
    assert (remote.trace_id, remote.span_id) == (context.trace_id, context.span_id)


def test_tracestate_travels_and_a_long_one_does_not() -> None:
    """Vendors' state is passed on unread, up to 512 characters."""
    traceparent = f"00-{TRACE}-{SPAN}-01"
    headers: dict[str, str] = {}
    sent = {"traceparent": traceparent, "tracestate": "a=1,b=2"}
    with use_span(trace.get_current_span(extract(sent))):
        inject(headers)
    assert headers == sent
    long = parse(traceparent, "a=" + "x" * 600)
    assert long is not None
    assert not long.trace_state


def test_without_a_span_nothing_is_written_and_nothing_is_continued() -> None:
    """No invented ids outside a request."""
    headers: dict[str, str] = {}
    inject(headers)
    assert headers == {}
    assert not trace.get_current_span(extract({})).get_span_context().is_valid
