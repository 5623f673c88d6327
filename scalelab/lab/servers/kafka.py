"""Kafka in KRaft mode: one process that is broker and controller.

Formatting a data folder with Kafka's own tool costs a JVM start. What it writes is two small files:
`meta.properties` (cluster and node id), which is written here, and `bootstrap.checkpoint` (feature
levels, the same for every cluster of a version), which the tool makes once per cache.
"""

from __future__ import annotations

import base64
import shutil
import signal
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from scalelab.errors import CorruptData
from scalelab.lab.servers import wheels
from scalelab.lab.servers.account import hand_over
from scalelab.lab.servers.base import Place, Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.java import KAFKA, KAFKA_VERSION, jars_of, java
from scalelab.lab.servers.kafka_protocol import living_brokers
from scalelab.lab.servers.processes import Launch, StopSteps

_FLAGS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # the quick compiler only: 40% less CPU until the first record
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)

_DEFAULTS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A killed broker is let in again when its old session has ended: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.index.size.max.bytes": "1048576",
}


class Kafka(Server):
    """A single Kafka node. settings: lines of server.properties; they win over the defaults."""

    default_port = 9092
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 15.0),)
    ready_within_s = 90.0

    def __init__(
        self,
        name: str = "kafka",
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, port)
        self._settings = {**_DEFAULTS, **(settings or {})}
        self._controller_port = 0

    @property
    def bootstrap(self) -> str:
        """The address clients begin with."""
        return f"127.0.0.1:{self.port}"

    def bind(self, place: Place) -> None:
        super().bind(place)
        self._controller_port = place.port(f"{self.name}.controller", self.port + 1)

    def prepare(self) -> Launch:
        program = str(java(self.place.providers).path)
        jars = jars_of(KAFKA, self.place.providers)
        self.version = KAFKA_VERSION
        command = [program, *_FLAGS, "-cp", ":".join(str(jar) for jar in jars)]
        data = self.folder / "data"
        config = self.folder / "server.properties"
        self.place.write(config, self._properties(data))
        if not (data / "meta.properties").exists():
            self._format(command, data, config)
        return self.launch([*command, "kafka.Kafka", str(config)])

    def probe(self) -> None:
        try:
            alive = living_brokers("127.0.0.1", self.port, timeout_s=1.0)
        except (OSError, CorruptData) as error:
            raise NotReady(str(error)) from error
        if alive < 1:
            raise NotReady("the broker is fenced: not yet part of its own cluster")

    def _properties(self, data: Path) -> str:
        client = f"PLAINTEXT://127.0.0.1:{self.port}"
        controller = f"127.0.0.1:{self._controller_port}"
        settings = {
            "log.dirs": str(data),
            "listeners": f"{client},CONTROLLER://{controller}",
            "advertised.listeners": client,
            "controller.quorum.voters": f"1@{controller}",
            **self._settings,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    def _format(self, command: list[str], data: Path, config: Path) -> None:
        checkpoint = self._checkpoint(command, config)
        if not data.exists():
            data.mkdir(mode=0o700)
            hand_over(self.place.account, data)
        copied = data / "bootstrap.checkpoint"
        shutil.copyfile(checkpoint, copied)
        hand_over(self.place.account, copied)
        # Written last: its presence says that the folder is complete.
        self.place.write(
            data / "meta.properties", f"version=1\ncluster.id={_cluster_id()}\nnode.id=1\n"
        )

    def _checkpoint(self, command: list[str], config: Path) -> Path:
        """The bootstrap.checkpoint of this version, made once by Kafka's own tool."""
        cache = self.place.providers.options.cache
        kept = cache / f"kafka-{KAFKA_VERSION}-bootstrap.checkpoint"
        with wheels.locked(cache / "kafka-checkpoint.lock"):
            if not kept.exists():
                with tempfile.TemporaryDirectory(dir=self.folder, prefix="format-") as scratch:
                    hand_over(self.place.account, Path(scratch))
                    made = Path(scratch) / "data"
                    trial = Path(scratch) / "server.properties"
                    self.place.write(trial, self._properties(made))
                    tool = ["kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c"]
                    self.run_as_server(
                        [*command, *tool, str(trial)], what="Kafka's format tool", timeout_s=120
                    )
                    aside = kept.with_name(f".{kept.name}.new")
                    shutil.copyfile(made / "bootstrap.checkpoint", aside)
                    aside.replace(kept)
        return kept


def _cluster_id() -> str:
    """22 characters of URL-safe base64: 128 random bits, not starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
