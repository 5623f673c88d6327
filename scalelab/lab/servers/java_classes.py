"""Our own Java sources, compiled where there may be a runtime and no compiler.

The compiler is Eclipse's: one jar from Maven Central that runs on any Java runtime, so that a
machine with a JDK and one with only the wheel's runtime build the same class files in one way.
"""

from __future__ import annotations

from pathlib import Path

from scalelab.lab.servers.java import Jars, jars_of, java
from scalelab.lab.servers.providers import Providers
from scalelab.lab.servers.short_commands import run_short

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
    command += ["-d", str(target), str(source)]
    run_short(command, f"compiling {source.name}", timeout_s=_COMPILE_S)
