"""What a supervisor tells the world: a small JSON file, replaced whole, read by every command.

Files of a stack, all in `.lab/stacks/<month>/`:
    supervisor.lock   held (flock) for as long as the supervisor lives; the truth about "running"
    supervisor.pid    pid and start time, so that a recycled pid is never signalled
    supervisor.log    what the supervisor and `stack.py` printed
    state.json        this module's StackState
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Phase = Literal["starting", "ready", "failed", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class StackPaths:
    """Where one stack of one clone keeps its files. root: the clone. month: `month3`."""

    root: Path
    month: str

    @property
    def folder(self) -> Path:
        """Everything of this stack: data, logs, secrets, and the supervisor's own files."""
        return self.root / ".lab" / "stacks" / self.month

    @property
    def lock(self) -> Path:
        """Held by the living supervisor."""
        return self.folder / "supervisor.lock"

    @property
    def pid(self) -> Path:
        """One line: pid, space, start time in seconds since the epoch."""
        return self.folder / "supervisor.pid"

    @property
    def log(self) -> Path:
        """Standard output and error of the supervisor."""
        return self.folder / "supervisor.log"

    @property
    def state(self) -> Path:
        """The published StackState."""
        return self.folder / "state.json"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One server or service. started_at_s: seconds since the epoch, 0.0 if unknown. log: a path."""

    name: str
    pid: int | None
    started_at_s: float
    port: int | None
    version: str | None
    rss_bytes: int | None
    pss_bytes: int | None
    state: str
    log: str


@dataclass(frozen=True, slots=True)
class StackState:
    """The whole published state. message: what it is doing, or why it failed.

    error_code is the stable code of the error of phase `failed`, else None.
    """

    month: str
    phase: Phase
    message: str
    pid: int
    started_at_s: float
    links: tuple[tuple[str, str], ...] = ()
    processes: tuple[ProcessView, ...] = ()
    error_code: str | None = None


def encode(state: StackState) -> str:
    """The state as JSON text."""
    return json.dumps(asdict(state), indent=1)


def decode(text: str) -> StackState:
    """The inverse of encode. Raises ValueError for text that no supervisor wrote."""
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["links"] = tuple((label, url) for label, url in raw["links"])
        raw["processes"] = tuple(ProcessView(**view) for view in raw["processes"])
        return StackState(**raw)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a stack state: {error}") from error


def publish(path: Path, state: StackState) -> None:
    """Replace the file whole: a reader sees the old or the new state, never half of one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(encode(state), encoding="utf-8")
    os.replace(fresh, path)


def read(path: Path) -> StackState | None:
    """The last published state, or None where there is none or it cannot be read."""
    try:
        return decode(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
