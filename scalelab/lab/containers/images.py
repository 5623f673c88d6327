"""Which stand-in answers to which official name. Pure: image references in, a build plan out.

A stand-in carries exactly the reference a container file pins (`postgres:16.10`), so that the file
runs unchanged; what is inside is what Debian and the wheels have, often another patch level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from scalelab.lab.servers.errors import ServerMissing

BASE = "python:3.11-slim"
"""The base of the project's own image and of every stand-in."""

TARGETS: Mapping[str, str] = {
    "apache/kafka": "kafka",
    "memcached": "memcached",
    "nginx": "nginx",
    "postgres": "postgres",
    "prom/prometheus": "prometheus",
    "redis": "redis",
}
"""Official repository → stage of standins/Dockerfile."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a container file needs. standins: reference → stage; built: services built from it."""

    standins: Mapping[str, str]
    built: tuple[str, ...]


def wanted(document: Mapping[str, Any]) -> Wanted:
    """Read a resolved container file (`docker compose config --format json`).

    Raises ServerMissing naming the images that have no stand-in.
    """
    services = cast("Mapping[str, Mapping[str, Any]]", document.get("services", {}))
    built = tuple(sorted(name for name, one in services.items() if one.get("build")))
    ours = {str(services[name].get("image", "")) for name in built}
    plain = {str(one["image"]) for one in services.values() if not one.get("build")} - ours
    standins = {reference: TARGETS.get(repository(reference), "") for reference in plain - {BASE}}
    unknown = sorted(reference for reference, stage in standins.items() if not stage)
    if unknown:
        raise ServerMissing(
            f"The container bed has no stand-in for {', '.join(unknown)}. Try: add a stage to "
            f"scalelab/lab/containers/standins/Dockerfile and its name to images.py."
        )
    return Wanted(dict(sorted(standins.items())), built)


def repository(reference: str) -> str:
    """`prom/prometheus:v2.55.1` → `prom/prometheus`; the official host and digests are dropped."""
    plain = reference.split("@", 1)[0]
    head, _, tail = plain.rpartition("/")
    name = tail.split(":", 1)[0]
    joined = f"{head}/{name}" if head else name
    return joined.removeprefix("docker.io/").removeprefix("library/")


def build_file(standins: Mapping[str, str], *, context: str, base: str) -> dict[str, Any]:
    """The container file that builds the stand-ins, in the host's network."""
    return {
        "name": "scalelab-standins",
        "services": {
            f"standin-{number}": {
                "image": reference,
                "build": {
                    "context": context,
                    "target": stage,
                    "network": "host",
                    "args": {"BASE": base},
                },
            }
            for number, (reference, stage) in enumerate(standins.items())
        },
    }


def overlay(built: Iterable[str]) -> dict[str, Any]:
    """What is laid over a project's file: its images are built in the host's network, too."""
    return {"services": {name: {"build": {"network": "host"}} for name in built}}


def fingerprint(parts: Iterable[str]) -> str:
    """Twelve characters that change with any of the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:12]
