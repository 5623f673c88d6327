"""RabbitMQ: one node on its own, with its own name, data and log, and a single door.

Erlang nodes find each other through a daemon, `epmd`, which the first of them starts and nobody
ends. A node that is alone needs neither the daemon nor a door for other nodes: this one is told so
(`-start_epmd false -dist_listen false`). What listens is AMQP on 127.0.0.1, and nothing outlives
the node. The price: `rabbitmqctl` cannot reach it; what it would tell, AMQP tells.

The program's own launcher is started in the one mode in which it becomes the Erlang machine rather
than its parent, so a signal meets the node itself. SIGTERM is an orderly stop.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import ClassVar

from scalelab.errors import CorruptData
from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Recipe
from scalelab.lab.servers.rabbitmq_protocol import sign_in

RECIPE = Recipe(
    server="rabbitmq",
    program="rabbitmq-server",
    minimum=(3, 10),
    version_flag=None,  # it would start a node
    version=r"rabbitmq(?:_server-|/)(\d+(?:\.\d+)+)",
    # Debian's program on the search path changes the user first; this is the one behind it.
    places=("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server"),
    together=("rabbitmq-env", "rabbitmq-defaults"),
    packages=("rabbitmq-server",),
    units=("rabbitmq-server.service", "epmd.service", "epmd.socket"),
)

_DEFAULTS = {
    "log.console": "true",
    "log.console.level": "warning",
    "log.file": "false",
    "disk_free_limit.absolute": "50MB",
    "vm_memory_high_watermark.absolute": "512MB",
    "raft.wal_max_size_bytes": "16777216",  # quorum queues' log: replayed at a start
    "collect_statistics_interval": "60000",
}
_NODE = "rabbit@localhost"
_ALONE = f"-sname {_NODE} -start_epmd false -erl_epmd_port 1 -dist_listen false"
_PROBE_S = 1.0


class RabbitMQ(Server):
    """A RabbitMQ node. settings: lines of rabbitmq.conf that replace or join the defaults above."""

    default_port = 5672
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 20.0),)
    ready_within_s = 120.0
    user: ClassVar[str] = "scalelab"
    """The only user; the one that a new RabbitMQ has by itself is never made."""

    def __init__(
        self,
        name: str = "rabbitmq",
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, port)
        self._settings = {**_DEFAULTS, **(settings or {})}

    @property
    def password(self) -> str:
        """The password of `user`."""
        return self.place.secret(f"{self.name}.password")

    @property
    def url(self) -> str:
        """Connection URL of the virtual host `/`, password included."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}/"

    def remembers(self, queue: str) -> bool:
        """Whether a quorum queue would survive a kill now.

        The names of new queues reach the disk about a second after they were declared. Killed
        before, a node comes back with a queue that answers no more. Its messages need no such
        wait: a confirmed one has been written.
        """
        names = self.folder / "mnesia" / _NODE / "quorum" / _NODE / "names.dets"
        return names.exists() and f"_{queue}".encode() in names.read_bytes()

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        folder = self.folder
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "default_user": self.user,
            "default_pass": self.password,
            **self._settings,
        }
        config = folder / "rabbitmq.conf"
        self.place.write(config, "".join(f"{key} = {value}\n" for key, value in lines.items()))
        plugins = folder / "enabled_plugins"
        self.place.write(plugins, "[].\n")
        env = {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ALLOW_INPUT": "1",  # the launcher then replaces itself by the node
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ALONE,
        }
        return self.launch([str(program.path), "-noinput"], env)

    def probe(self) -> None:
        try:
            sign_in(self.port, self.user, self.password, timeout_s=_PROBE_S)
        except (OSError, CorruptData) as error:
            raise NotReady(str(error)) from error
