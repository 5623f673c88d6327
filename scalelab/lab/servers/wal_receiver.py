"""`pg_receivewal`: a server's log, record by record, on another disk before a commit returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import psycopg

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.postgres import Postgres
from scalelab.lab.servers.postgres_config import RECIPE, primary_conninfo
from scalelab.lab.servers.processes import Launch

_READY_SQL = "SELECT state FROM pg_stat_replication WHERE application_name = %s"


class WalReceiver(Server):
    """Receives the log of `source` into `into`, a folder its account can write, and syncs each
    write at once. It listens nowhere; the slot keeps what it has not taken while it is away.

    Whoever wants commits to wait for it: `source.set_synchronous([receiver.name])`.
    """

    default_port: ClassVar[int] = 5439

    def __init__(self, source: Postgres, into: Path, name: str | None = None) -> None:
        super().__init__(name or f"{source.name}-receiver", None)
        self._source = source
        self._into = into

    @property
    def after(self) -> Sequence[Server]:
        return (self._source,)

    @property
    def slot(self) -> str:
        """Its replication slot on the source."""
        return re.sub(r"[^a-z0-9_]", "_", self.name.lower())

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        self._source.prepare_for_replica(self.slot)
        passfile = self._source.replication_passfile(self.folder)
        conninfo = primary_conninfo(self._source.port, passfile, self.name)
        command = [program.beside("pg_receivewal"), "-d", conninfo, "-D", str(self._into)]
        return self.launch([*command, "-S", self.slot, "--synchronous", "--no-password"])

    def probe(self) -> None:
        try:
            with psycopg.connect(self._source.superuser_dsn(), connect_timeout=2) as connection:
                row = connection.execute(_READY_SQL, (self.name,)).fetchone()
        except psycopg.OperationalError as error:
            raise NotReady(str(error)) from error
        if row is None or row[0] != "streaming":
            raise NotReady("it does not receive yet")
