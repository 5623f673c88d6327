"""The route file of a running gateway: read when it changes, put in force only if it is right.

Theory of operation
    The file is looked at every `poll_s`. A change (time, size or inode) is acted on when two looks
    in a row see the same: a writer that is not atomic gets time to finish, because half a route
    file may be a valid one. SIGHUP and the administration ask for a reading at once.

Invariants (tests cite them)
    F1  What is in force is the last document that was right. A wrong one changes nothing, and is
        told with line and reason: to the log, to the metrics, to whoever asked.
    F2  Readings happen one after the other, so the last document read is the one in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from month1_caching_gateway.gateway.config_file import read_file, rules_of
from month1_caching_gateway.gateway.snapshot import Rules
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log

Apply = Callable[["Document"], Awaitable[None]]
"""Puts a document in force everywhere. Raises ScalelabError if that is not possible."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Document:
    """A right route file: its text, as UTF-8, and what it says."""

    name: str
    text: str
    rules: Rules


class RouteFile:
    """Watches one file. apply: called for each right document, also if it says what was said."""

    def __init__(self, path: Path, registry: CollectorRegistry, log: Log) -> None:
        self.in_force = _read(path)
        self._path = path
        self._log = log
        self._lock = asyncio.Lock()
        self._acted_on = self._seen = _stamp(path)
        self._reloads = Counter(
            "gateway_config_reloads", "Readings.", ["outcome"], registry=registry
        )
        self._right = Gauge(
            "gateway_config_file_right",
            "1 if the file as last read is in force, 0 if it was refused.",
            registry=registry,
        )
        for outcome in ("applied", "refused"):
            self._reloads.labels(outcome)
        self._right.set(1)

    async def watch(self, apply: Apply, *, poll_s: float) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            before, self._seen = self._seen, _stamp(self._path)
            if self._seen == before and self._seen != self._acted_on:
                try:
                    await self.reload(apply)
                except ScalelabError:
                    continue  # told by `reload`; the old document stays

    async def reload(self, apply: Apply) -> Document:
        """Read the file now and put it in force. Raises BadFile and what `apply` raises (F1)."""
        async with self._lock:
            self._acted_on = _stamp(self._path)
            try:
                document = await asyncio.to_thread(_read, self._path)
                await apply(document)
            except ScalelabError as error:
                self._reloads.labels("refused").inc()
                self._right.set(0)
                self._log.error("routes refused", file=self._path.name, reason=str(error))
                raise
            self.in_force = document
            self._reloads.labels("applied").inc()
            self._right.set(1)
            self._log.info(
                "routes applied",
                revision=document.rules.revision,
                routes=len(document.rules.routes),
            )
            return document


def _read(path: Path) -> Document:
    raw = read_file(path)
    rules = rules_of(raw, path.name)
    return Document(path.name, raw.decode("utf-8"), rules)


def _stamp(path: Path) -> _Stamp:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
