"""Our own Java sources, compiled where there may be a runtime and no compiler.

The compiler is Eclipse's: one jar from Maven Central that runs on any Java runtime, so that a
machine with a JDK and one with only the wheel's runtime build the same class files in one way.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.java import Jars, jars_of, java
from scalelab.lab.servers.providers import Providers

_ECJ_VERSION = "3.40.0"
_COMPILE_S = 120
COMPILER = Jars("ecj", _ECJ_VERSION, (("org.eclipse.jdt", "ecj", _ECJ_VERSION),))
RELEASE = 17
"""The oldest runtime that the servers here are given."""


def compile_java(source: Path, providers: Providers, target: Path) -> None:
    """Compile one file into class files below `target`. Raises ServerMissing or ServerFailed."""
    program = java(providers)
    jars = jars_of(COMPILER, providers)
    command = [str(program.path), "-cp", ":".join(str(jar) for jar in jars)]
    command += ["org.eclipse.jdt.internal.compiler.batch.Main", "-nowarn", f"-{RELEASE}"]
    run_java([*command, "-d", str(target), str(source)], f"compiling {source.name}", _COMPILE_S)


def run_java(command: Sequence[str], what: str, timeout_s: float) -> str:
    """What a Java program printed. Raises ServerFailed with its last words."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerFailed(f"{what} failed: {error}.") from error
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-400:]
        raise ServerFailed(f'{what} failed: "{words}".')
    return done.stdout
