"""How commands deal with a supervisor: is it there, start it, watch it, stop it.

"Running" means that somebody holds the lock; files left by a dead supervisor never count.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from scalelab.errors import ScalelabError
from scalelab.lab.supervisor import identity
from scalelab.lab.supervisor.process import ALREADY_RUNNING
from scalelab.lab.supervisor.state import StackPaths, StackState, read

Watch = Callable[[StackState], None]
_POLL_S = 0.1


class StackFailed(ScalelabError):
    """The stack did not start; the message says what and where, the code is the cause's own."""

    code = "stack_failed"


def is_running(paths: StackPaths) -> bool:
    """True if a living supervisor holds the stack's lock."""
    try:
        handle = paths.lock.open("r", encoding="utf-8")
    except FileNotFoundError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def running_stacks(root: Path) -> list[StackPaths]:
    """The stacks of this clone whose supervisor lives, in order of their names."""
    folder = root / ".lab" / "stacks"
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [paths for name in names if is_running(paths := StackPaths(root, name))]


def supervisor_of(paths: StackPaths) -> tuple[int, float] | None:
    """(pid, start time) of the living supervisor, or None."""
    try:
        words = paths.pid.read_text(encoding="utf-8").split()
        pid, started_s = int(words[0]), float(words[1])
    except (OSError, ValueError, IndexError):
        return None
    return (pid, started_s) if identity.is_alive(pid, started_s) else None


def bring_up(paths: StackPaths, *, watch: Watch) -> tuple[StackState, bool]:
    """Start the stack or attach to it, and wait until it is ready.

    Returns the ready state and True if this call attached to a stack that was there already.
    Raises StackFailed. KeyboardInterrupt stops a stack that this very call was starting.
    """
    attached = is_running(paths)
    if attached and (state := _wait_settled(paths, None, watch)) is not None:
        return state, True
    child = _launch(paths)
    try:
        state = _wait_settled(paths, child, watch)
    except KeyboardInterrupt:
        take_down(paths, grace_s=30.0)
        raise
    if child.poll() == ALREADY_RUNNING:
        return bring_up(paths, watch=watch)[0], True
    if state is None:
        raise StackFailed(
            f"The supervisor of {paths.month} ended before the stack was ready. "
            f"Its log ends: {_tail(paths.log)!r}. Try: ./lab logs supervisor, or ./lab doctor."
        )
    return state, False


def take_down(paths: StackPaths, *, grace_s: float) -> bool:
    """Stop the stack: SIGTERM, wait up to grace_s, SIGKILL. False if none was running.

    Processes that outlived a killed supervisor are ended too, found by pid and start time.
    """
    was_running = is_running(paths)
    before = read(paths.state)
    deadline = time.monotonic() + grace_s
    asked: tuple[int, float] | None = None
    while is_running(paths) and time.monotonic() < deadline:
        found = supervisor_of(paths)
        if found is not None and found != asked:
            identity.send_signal(*found, signal.SIGTERM)
            asked = found
        time.sleep(_POLL_S)
    if is_running(paths) and (found := supervisor_of(paths)) is not None:
        identity.send_signal(*found, signal.SIGKILL)
    if before is not None:
        views = [(view.pid, view.started_at_s) for view in before.processes if view.pid]
        identity.end_all(views, grace_s=5.0)
    return was_running


def follow(path: Path, *, lines: int, keep_going: bool) -> Iterator[str]:
    """The last `lines` lines of a log, then, if asked, every new one until interrupted."""
    with path.open("r", encoding="utf-8", errors="replace") as log:
        yield from deque(log, maxlen=lines)
        while keep_going:
            line = log.readline()
            if line:
                yield line
            else:
                time.sleep(0.2)
                if path.exists() and path.stat().st_size < log.tell():
                    log.seek(0)


def _launch(paths: StackPaths) -> subprocess.Popen[bytes]:
    paths.folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "scalelab.lab.supervisor", str(paths.root), paths.month]
    # The supervisor and its children import the code that runs now, from any folder.
    search = os.pathsep.join(word for word in sys.path if word and Path(word).is_dir())
    with paths.log.open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=paths.root,
            env=os.environ | {"PYTHONPATH": search, "PYTHONUNBUFFERED": "1"},
            # Its own session: a Ctrl-C in this terminal is not meant for the stack.
            start_new_session=True,
        )


def _wait_settled(
    paths: StackPaths, child: subprocess.Popen[bytes] | None, watch: Watch
) -> StackState | None:
    """Wait for phase `ready`. None if the supervisor ended without being ready.

    Raises StackFailed if it published why. There is no deadline here: every step of a stack has
    its own, and the supervisor fails when one passes.
    """
    pid = 0
    while True:
        alive = child.poll() is None if child else is_running(paths)
        # The pid tells this supervisor's state from one that an earlier supervisor left behind.
        pid = child.pid if child else pid or (supervisor_of(paths) or (0, 0.0))[0]
        state = read(paths.state)
        if state is not None and state.pid == pid:
            watch(state)
            if state.phase == "ready" and alive:
                return state
            if state.phase == "failed" and not alive:
                raise StackFailed(state.message, code=state.error_code)
        if not alive:
            return None
        time.sleep(_POLL_S)


def _tail(path: Path) -> str:
    """The last line that says something."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
