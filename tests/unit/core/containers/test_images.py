"""Which stand-ins a container file needs, and how they are built."""

from __future__ import annotations

from typing import Any

import pytest

from scalelab.lab.containers import images
from scalelab.lab.containers.standins.kafka import properties
from scalelab.lab.servers import ServerMissing


def document(**services: dict[str, Any]) -> dict[str, Any]:
    """A resolved container file."""
    return {"services": services}


def test_what_is_built_needs_no_stand_in() -> None:
    """Nor does a service that shares the image of one that is built."""
    found = images.wanted(
        document(
            job={"build": {"context": "."}, "image": "shop:local"},
            app={"image": "shop:local"},
            store={"image": "postgres:16.10"},
        )
    )
    assert found.standins == {"postgres:16.10": "postgres"}
    assert found.built == ("job",)


def test_an_image_without_a_stand_in_is_named() -> None:
    """Instead of a pull that ends in a time-out."""
    with pytest.raises(ServerMissing, match="grafana/grafana:11"):
        images.wanted(document(a={"image": "grafana/grafana:11"}, b={"image": "redis:7"}))


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("redis:7.4", "redis"),
        ("docker.io/library/redis:7.4", "redis"),
        ("prom/prometheus:v2.55.1", "prom/prometheus"),
        ("nginx@sha256:0123", "nginx"),
        ("registry.example:5000/team/app", "registry.example:5000/team/app"),
    ],
)
def test_a_reference_gives_its_repository(reference: str, repository: str) -> None:
    """Tags, digests and the official host's long form are dropped; another host's name is not."""
    assert images.repository(reference) == repository


def test_stand_ins_and_ours_are_built_in_the_host_s_network() -> None:
    """The bed's bridges reach nothing outside, on purpose."""
    built = images.build_file({"redis:7.4": "redis"}, context="/c", base=images.BASE)
    ours = images.overlay(["job"])
    for one in (*built["services"].values(), *ours["services"].values()):
        assert one["build"]["network"] == "host"


def test_a_fingerprint_tells_parts_apart() -> None:
    """Moving a character from one part to the next changes it."""
    assert images.fingerprint(["ab", "c"]) != images.fingerprint(["a", "bc"])
    assert images.fingerprint(["ab", "c"]) == images.fingerprint(["ab", "c"])


def test_kafka_s_variables_become_properties() -> None:
    """As in the original: dots, dashes, underscores; the Java runtime's variables stay out."""
    lines = properties(
        {
            "KAFKA_NODE_ID": "1",
            "KAFKA_A__B___C": "x",
            "KAFKA_HEAP_OPTS": "-Xmx1g",
            "PATH": "/bin",
        }
    )
    assert lines == {"node.id": "1", "a_b-c": "x"}
