"""JSON lines on standard output, each with the trace and the request it belongs to.

One line is one event: control characters are escaped by JSON, so no caller's text can forge a
second line. Tracebacks carry no local variables: those hold passwords and card tokens.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol, TextIO, cast

import structlog
from opentelemetry.trace import get_current_span

request_id_var: ContextVar[str | None] = ContextVar("scalelab_request_id", default=None)
"""The id of the request this task works for; set by the web layer, read by every log line."""

_Event = MutableMapping[str, object]


class Log(Protocol):
    """What callers use of a logger: an event name, then fields."""

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...
    def exception(self, event: str, **fields: object) -> None: ...
    def bind(self, **fields: object) -> Log: ...


class _LineWriter:
    """Writes a line and flushes. Without a stream it follows sys.stdout, wherever that points."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        stream = self._stream or sys.stdout
        stream.write(line + "\n")
        stream.flush()

    debug = info = warning = error = exception = critical = log = msg


def build_log(service: str, level: str, stream: TextIO | None = None) -> Log:
    """A logger of its own; structlog's global configuration is neither read nor changed."""

    def add_context(_logger: object, level_name: str, event: _Event) -> _Event:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line: _Event = {"at": now, "level": level_name, "service": service}
        line.update(event)
        context = get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
            line["span_id"] = f"{context.span_id:016x}"
        request_id = request_id_var.get()
        if request_id is not None:
            line.setdefault("request_id", request_id)
        return line

    logger: object = structlog.wrap_logger(
        _LineWriter(stream),
        processors=[add_context, structlog.processors.format_exc_info, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    ).bind()
    return cast("Log", logger)


def _render(_logger: object, _level: str, event: _Event) -> str:
    return json.dumps(event, default=str, separators=(",", ":"))


class _JsonHandler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        report = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        if record.levelno < logging.WARNING:
            report = self._log.info
        report(record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def route_standard_logging(log: Log, *, level: int = logging.WARNING) -> None:
    """Send what libraries say through `logging` to `log`. For a process's entry, once."""
    root = logging.getLogger()
    root.handlers[:] = [_JsonHandler(log)]
    root.setLevel(level)
