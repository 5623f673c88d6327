"""What a process tells the world about itself, decided once at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from scalelab.errors import InvalidInput

LogLevel = Literal["debug", "info", "warning", "error"]
ExportKind = Literal["none", "file", "otlp"]


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """service: label of every metric, line and span. log_level: debug | info | warning | error.

    trace_export: "none" (trace ids still travel), "file:PATH" (JSON lines, appended) or
    "otlp:URL" (protobuf over HTTP). sample_ratio: share of new traces kept, 0.0..1.0; a trace
    that began elsewhere keeps the decision made there.

    Raises InvalidInput, with the field's name, for anything else.
    """

    service: str
    log_level: str = "info"
    trace_export: str = "none"
    sample_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not self.service:
            raise InvalidInput("a service needs a name", field="service")
        if self.log_level not in get_args(LogLevel):
            raise InvalidInput(f"unknown log level {self.log_level!r}", field="log_level")
        if not 0.0 <= self.sample_ratio <= 1.0:
            raise InvalidInput("sample_ratio lies outside 0..1", field="sample_ratio")
        export_target(self.trace_export)


def export_target(trace_export: str) -> tuple[ExportKind, str]:
    """Split "none", "file:PATH" or "otlp:URL" into kind and target; InvalidInput otherwise."""
    if trace_export == "none":
        return "none", ""
    kind, _, target = trace_export.partition(":")
    if kind == "file" and target:
        return "file", target
    if kind == "otlp" and target.startswith(("http://", "https://")):
        return "otlp", target
    raise InvalidInput(
        f"{trace_export!r} is none of: none, file:PATH, otlp:URL", field="trace_export"
    )
