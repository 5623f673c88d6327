"""One JSON line per request, formatted and written in batches in another thread.

The request path only appends a value to a bounded queue. When the sink is slower than the traffic
the newest records are dropped and counted: a log must not stop the shop. Queries, tokens, cookies
and bodies are never logged.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

Sink = Callable[[bytes], object]
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Durations in seconds; upstream_s and wait_s are None where nothing was sent.

    wait_s: from the head read to the request sent on (admission, small body, connection).
    subject: the verified principal, or "" for an anonymous caller.
    """

    at: datetime
    request_id: str
    trace_id: str
    method: str
    path: str
    route: str
    status: int
    code: str
    upstream: str
    subject: str
    client: str
    bytes_in: int
    bytes_out: int
    attempts: int
    total_s: float
    upstream_s: float | None
    wait_s: float | None

    def line(self) -> str:
        """The record as a JSON object, without a line end."""
        return json.dumps(
            {
                "ts": self.at.isoformat(timespec="milliseconds"),
                "event": "request",
                "request_id": self.request_id,
                "trace_id": self.trace_id,
                "method": self.method,
                "path": self.path,
                "route": self.route,
                "status": self.status,
                "code": self.code,
                "upstream": self.upstream,
                "subject": self.subject,
                "client": self.client,
                "bytes_in": self.bytes_in,
                "bytes_out": self.bytes_out,
                "attempts": self.attempts,
                "total_ms": _ms(self.total_s),
                "upstream_ms": _ms(self.upstream_s),
                "wait_ms": _ms(self.wait_s),
            },
            separators=(",", ":"),
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class RequestLog:
    """A bounded queue in front of a blocking sink. `run` flushes it; `flush` ends it."""

    def __init__(self, sink: Sink, *, flush_s: float, max_pending: int) -> None:
        self._sink = sink
        self._flush_s = flush_s
        self._max_pending = max_pending
        self._pending: deque[Record] = deque()
        self.dropped = 0

    def add(self, record: Record) -> None:
        """Queue a record; dropped and counted when the queue is full."""
        if len(self._pending) >= self._max_pending:
            self.dropped += 1
        else:
            self._pending.append(record)

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Write what is queued now. A sink that fails loses its batch, and is counted."""
        while self._pending:
            batch = list(islice(self._pending, _BATCH))
            for _ in batch:
                self._pending.popleft()
            try:
                await asyncio.to_thread(self._write, batch)
            except (OSError, ValueError):
                self.dropped += len(batch)

    def _write(self, batch: list[Record]) -> None:
        self._sink("".join([record.line() + "\n" for record in batch]).encode())
