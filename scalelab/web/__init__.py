"""How every service speaks HTTP: app factory, problems, probes, limits, drain, event streams.

Beside the door stand `scalelab.web.auth` (needs cryptography), `scalelab.web.idempotency`,
`.idempotency_http` and `.idempotency_postgres` (needs psycopg): a process loads what it uses.
"""

from __future__ import annotations

from scalelab.web.app import create_app, lifecycle_of
from scalelab.web.limits import Limits
from scalelab.web.openapi import PROBLEM_RESPONSES, problem_responses
from scalelab.web.serving import install_stop_signals, serve
from scalelab.web.sse import Event, EventStream

__all__ = [
    "PROBLEM_RESPONSES",
    "Event",
    "EventStream",
    "Limits",
    "create_app",
    "install_stop_signals",
    "lifecycle_of",
    "problem_responses",
    "serve",
]
