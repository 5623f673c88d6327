"""ZooKeeper: one server of its own, whose sessions may end within less than a second.

It counts time in ticks, and a session lasts two ticks at least. Its own default of 2 s a tick is
for networks; this one stands beside its clients, so that a lesson does not wait.
"""

from __future__ import annotations

import signal
import socket
from typing import ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.java import ZOOKEEPER, ZOOKEEPER_VERSION, jars_of, java
from scalelab.lab.servers.processes import Launch, StopSteps

_FLAGS = (
    "-Xms32m",
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Dzookeeper.admin.enableServer=false",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
_SESSION_MAX_MS = 3_600_000
"""By default a session lasts twenty ticks at most, which here are short."""
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


class ZooKeeper(Server):
    """A single server. tick_ms: sessions last two ticks at least. It listens on 127.0.0.1 only."""

    default_port = 2181
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)
    ready_within_s = 90.0

    def __init__(
        self, name: str = "zookeeper", port: int | None = None, *, tick_ms: int = 200
    ) -> None:
        super().__init__(name, port)
        self._tick_ms = tick_ms

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> Launch:
        program = str(java(self.place.providers).path)
        jars = jars_of(ZOOKEEPER, self.place.providers)
        self.version = ZOOKEEPER_VERSION
        config = self.folder / "zoo.cfg"
        lines = {
            "tickTime": self._tick_ms,
            "dataDir": self.folder / "data",
            "clientPortAddress": "127.0.0.1",
            "clientPort": self.port,
            "maxSessionTimeout": _SESSION_MAX_MS,
            "maxClientCnxns": 0,
            "4lw.commands.whitelist": "srvr,mntr",
            # What is lost with the power was never promised here; a killed process loses nothing.
            "forceSync": "no",
            "autopurge.purgeInterval": 0,
        }
        self.place.write(config, "".join(f"{key}={value}\n" for key, value in lines.items()))
        classes = ":".join(str(jar) for jar in jars)
        return self.launch([program, *_FLAGS, "-cp", classes, _MAIN, str(config)])

    def probe(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"srvr")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
        except OSError as error:
            raise NotReady(str(error)) from error
        if b"Mode:" not in answer:
            raise NotReady(answer.decode(errors="replace").strip() or "it does not serve yet")
