"""Short commands: run to the end, and tell a failure by the last words."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from scalelab.lab.servers.errors import ServerFailed

_WORDS_MAX = 400


def run_short(
    command: Sequence[str],
    what: str,
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    umask: int = -1,
    advice: str = "",
) -> str:
    """What a command printed on standard output.

    what: how a person would call it, the first words of an error. env, umask: of the command, else
    ours. advice: said after its last words. Raises ServerFailed if it cannot be run, takes longer
    than it may, or ends with another exit code than 0.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=None if env is None else dict(env),
            umask=umask,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerFailed(f"{what} failed: {error}.") from error
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-_WORDS_MAX:]
        raise ServerFailed(f'{what} failed: "{words}".{advice and " " + advice}')
    return done.stdout
