"""A step that must be done before services start: migrations, seeding, topics.

It runs in a process of its own, so that what it imports is not kept by the process that watches
the stack. Repeatable steps only: every start of a stack runs them again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scalelab.lab.course.months import default_root
from scalelab.lab.servers.errors import ServerFailed

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

_TIMEOUT_S = 120.0


def prepare(runtime: Runtime, what: str, module: Sequence[str], env: Mapping[str, str]) -> None:
    """Run `python -m MODULE…` to its end. what: a noun for people (`tables`). Output: the log.

    Raises ServerFailed with the last line of the log if it fails or takes more than two minutes.
    """
    log = runtime.log_path("prepare")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-m", *module],
                env={**os.environ, **env},
                cwd=default_root(),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(
                f"Preparing the {what} took longer than {_TIMEOUT_S:.0f} s; see {log}."
            ) from error
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ServerFailed(
            f'Preparing the {what} failed. Its log ends: "{" ".join(tail)}". '
            f"Try: read {log}, or ./lab clean to start from nothing."
        )
