"""Logs, metrics and traces of one service, built once and passed down; no global providers."""

from __future__ import annotations

from scalelab.telemetry.build import Telemetry, build_telemetry
from scalelab.telemetry.log import Log, request_id_var, route_standard_logging
from scalelab.telemetry.settings import TelemetrySettings
from scalelab.telemetry.trace_context import extract, inject, parse, render

__all__ = [
    "Log",
    "Telemetry",
    "TelemetrySettings",
    "build_telemetry",
    "extract",
    "inject",
    "parse",
    "render",
    "request_id_var",
    "route_standard_logging",
]
