"""PgBouncer: many client connections on few of PostgreSQL's, each of which is a process.

In transaction mode a client has a server connection from BEGIN to COMMIT and another one the next
time. What lives in a session is then lost, or worse, somebody else's: SET, prepared statements,
advisory locks, LISTEN, temporary tables.

It logs into PostgreSQL itself, so it holds the passwords of the roles it may be, in a file of mode
0600. No wheel carries it; without the Debian package `ServerMissing` says so.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal
from urllib.parse import quote

import psycopg

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.postgres import Postgres
from scalelab.lab.servers.processes import Launch
from scalelab.lab.servers.providers import Recipe

RECIPE = Recipe(
    server="pgbouncer",
    program="pgbouncer",
    minimum=(1, 16),
    version=r"PgBouncer (\d+(?:\.\d+)+)",
    places=("/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"),
    packages=("pgbouncer",),
    units=("pgbouncer.service",),
)


class PgBouncer(Server):
    """A pooler in front of one PostgreSQL server.

    roles: who may connect; their passwords are those of the server's cluster. pool_size: server
    connections for each pair of role and database, >= 1. clients_max: client connections; more are
    refused. settings: more lines of its `[pgbouncer]` section.
    """

    default_port = 6432
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        server: Postgres,
        roles: Sequence[str],
        *,
        name: str | None = None,
        port: int | None = None,
        mode: Literal["session", "transaction", "statement"] = "transaction",
        pool_size: int = 4,
        clients_max: int = 200,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name or f"{server.name}-pooler", port)
        self._server = server
        self._roles = tuple(roles)
        self._settings = {
            "pool_mode": mode,
            "default_pool_size": str(pool_size),
            "max_client_conn": str(clients_max),
            **(settings or {}),
        }

    @property
    def after(self) -> Sequence[Server]:
        return (self._server,)

    def dsn(self, database: str, role: str) -> str:
        """Connection URL through the pooler, for one of its roles."""
        who = f"{quote(role, safe='')}:{quote(self._server.password(role), safe='')}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        users, config = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        known = {role: self._server.password(role) for role in self._roles}
        self.place.write(users, "".join(f'"{role}" "{known[role]}"\n' for role in known))
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "server_login_retry": "0.2",
            "server_tls_sslmode": "disable",
            **self._settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        upstream = f"* = host=127.0.0.1 port={self._server.port}\n"
        self.place.write(config, f"[databases]\n{upstream}[pgbouncer]\n{lines}")
        return self.launch([str(program.path), str(config)])

    def probe(self) -> None:
        """Its own console's name is asked for; a refused login shows that it listens and checks."""
        try:
            with psycopg.connect(
                self.dsn("postgres", self._roles[0]), connect_timeout=2, autocommit=True
            ) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise NotReady(str(error)) from error
