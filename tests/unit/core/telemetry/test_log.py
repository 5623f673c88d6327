"""Log lines: one event a line, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from scalelab.telemetry import request_id_var, route_standard_logging
from scalelab.telemetry.log import build_log


@given(st.text(st.characters()), st.text(st.characters()), st.binary())
def test_any_value_stays_on_one_line(event: str, value: str, data: bytes) -> None:
    """Neither CR/LF nor control characters nor lone surrogates forge or break a line."""
    stream = io.StringIO()
    build_log("s", "info", stream).info(event, value=value, data=data)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.isascii()
    assert not {"\r", "\0", "\x1b"} & set(text)
    (line,) = text.splitlines()
    assert json.loads(line)["value"] == value


def test_line_names_service_level_time_trace_and_request() -> None:
    """Enough to find everything else that belongs to it."""
    stream = io.StringIO()
    log = build_log("orders", "info", stream).bind(part="relay")
    token = request_id_var.set("r-1")
    with use_span(NonRecordingSpan(SpanContext(0xAB, 0xCD, is_remote=False))):
        log.warning("slow", took_s=2)
    request_id_var.reset(token)
    line = json.loads(stream.getvalue())
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning",
        "service": "orders",
        "event": "slow",
        "part": "relay",
        "took_s": 2,
        "trace_id": f"{0xAB:032x}",
        "span_id": f"{0xCD:016x}",
        "request_id": "r-1",
    }


def test_levels_below_the_setting_are_silent() -> None:
    """And cost next to nothing."""
    stream = io.StringIO()
    log = build_log("s", "warning", stream)
    log.debug("no")
    log.info("no")
    log.error("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes"]


def test_traceback_has_no_local_variables() -> None:
    """Locals hold passwords and card tokens."""
    stream = io.StringIO()
    log = build_log("s", "info", stream)

    def fail(password: str) -> None:
        raise ValueError(len(password))

    try:
        fail("hunter" + "2")
    except ValueError:
        log.exception("failed")
    line = json.loads(stream.getvalue())
    assert "ValueError: 7" in line["exception"]
    assert "hunter2" not in stream.getvalue()


def test_standard_output_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream, lines go wherever sys.stdout points at that moment."""
    build_log("s", "info").info("here")
    assert json.loads(capsys.readouterr().out)["event"] == "here"


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root_logger")
def test_lines_of_libraries_are_json_too() -> None:
    """What uvicorn or a driver says through logging ends up in the same shape."""
    stream = io.StringIO()
    route_standard_logging(build_log("s", "info", stream))
    logging.getLogger("some.library").warning("odd %s", "thing")
    logging.getLogger("some.library").info("unimportant")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("some.library").exception("broken")
    warning, error = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (warning["level"], warning["event"]) == ("warning", "odd thing")
    assert warning["logger"] == "some.library"
    assert (error["level"], error["event"]) == ("error", "broken")
    assert "KeyError" in error["exception"]
