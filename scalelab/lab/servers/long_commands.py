"""Long commands: their words go to a log, and their end is told from it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from scalelab.lab.servers.errors import ServerFailed, evidence, log_tail
from scalelab.lab.servers.processes import Launch, kill_tree, wrapped

_TAIL_LINES, _TAIL_CHARACTERS = 25, 4000


def run_logged(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    timeout_s: float,
    what: str,
    stdin: IO[bytes] | None = None,
    answer: bool = False,
) -> str:
    """Run to the end, both outputs into `log` while it runs; a log that stands still can be seen.

    answer: standard output is returned, and logged at the end, instead.

    Raises ServerFailed with the last lines of the log if it fails or takes longer than it may.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Whoever kills this process ends the command, too: its thread waits here until the end.
    command = wrapped(Launch(argv=tuple(argv), env=env, cwd=cwd, log=log))
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE if answer else file,
            stderr=file,
        ) as process,
    ):
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(f"{what} took longer than {timeout_s:.0f} s. {_end(log)}") from error
        finally:
            if process.poll() is None:
                kill_tree(process)
        output: bytes = said or b""
        file.write(output)
    if process.returncode != 0:
        raise ServerFailed(f"{what} failed with exit code {process.returncode}. {_end(log)}")
    return output.decode(errors="replace")


def _end(log: Path) -> str:
    tail = log_tail(log, lines=_TAIL_LINES, limit=_TAIL_CHARACTERS)
    return f"Its log {log} ends: {tail}" if tail else evidence(log)
