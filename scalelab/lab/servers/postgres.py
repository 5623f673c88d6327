"""PostgreSQL: primaries and streaming replicas, never as root, listening on 127.0.0.1 only.

Every data folder comes from its own `initdb` (0.3 s without syncing), not from a copied template:
copies would share one system identifier, and a replica could follow the wrong primary unnoticed.
A replica is a `pg_basebackup` of its primary, held by a replication slot of its own name.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg
from psycopg import sql

from scalelab.errors import InvalidInput
from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady, ServerFailed
from scalelab.lab.servers.postgres_config import (
    DEFAULTS,
    HOST_RULES,
    RECIPE,
    REPLICATION_ROLE,
    primary_conninfo,
    render,
    socket_folder,
)
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Program, Recipe

_ONE_REPLICA_AT_A_TIME = 0x5CA1E1AC
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Postgres(Server):
    """A PostgreSQL server. settings: lines of postgresql.conf beyond or instead of the defaults.

    Make one with a name and give it to `Runtime.start`; make its replicas with `add_replica` and
    give them too, in the same call or later. Databases and roles: `ensure_database`.
    """

    default_port = 5432
    # Immediate shutdown: the parent is dead, nobody would wait; recovery runs at the next start.
    death_signal: ClassVar[signal.Signals] = signal.SIGQUIT
    # Fast (abort sessions, checkpoint), then immediate.
    stop_steps: StopSteps = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
    ready_within_s = 60.0

    def __init__(
        self,
        name: str = "postgres",
        port: int | None = None,
        data_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        primary: Postgres | None = None,
        application_name: str | None = None,
        recipe: Recipe = RECIPE,
    ) -> None:
        super().__init__(name, port)
        self.recipe = recipe
        self.primary = primary
        self.application_name = application_name or name
        self.settings = dict(settings or {})
        self._data_dir = data_dir

    @property
    def cluster(self) -> str:
        """Name of the primary this server began from; secrets belong to the cluster."""
        return self.primary.cluster if self.primary else self.name

    @property
    def slot(self) -> str:
        """Replication slot of this server on its primary: its name in letters SQL accepts."""
        return re.sub(r"[^a-z0-9_]", "_", self.name.lower())

    @property
    def data_dir(self) -> Path:
        """The data folder (PGDATA)."""
        return self._data_dir or self.folder / "data"

    @property
    def after(self) -> Sequence[Server]:
        return (self.primary,) if self.primary else ()

    def add_replica(
        self, name: str, port: int | None = None, application_name: str | None = None
    ) -> Postgres:
        """A streaming replica of this server, not yet started: give it to `Runtime.start`.

        application_name is what `synchronous_standby_names` matches; the replica's name by default.
        """
        return Postgres(
            name, port, settings=self.settings, primary=self, application_name=application_name
        )

    def dsn(
        self, database: str = "postgres", role: str = "postgres", password: str | None = None
    ) -> str:
        """Connection URL. Without a password, the cluster's stored one for that role is used."""
        word = password if password is not None else self.password(role)
        who = f"{quote(role, safe='')}:{quote(word, safe='')}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def superuser_dsn(self, database: str = "postgres") -> str:
        """Connection URL of the superuser `postgres`."""
        return self.dsn(database)

    def password(self, role: str) -> str:
        """The cluster's stored password of a role; made on first use."""
        return self.place.secret(f"{self.cluster}.{role}")

    def ensure_database(self, database: str, role: str, password: str | None = None) -> str:
        """A database owned by a login role, closed to others; made if missing. Returns its DSN.

        Repeatable; the role's password is set again. Must be called on a primary.
        """
        for word in (database, role):
            if not _IDENTIFIER.fullmatch(word):
                raise InvalidInput(f"{word!r} is not a plain SQL name", field="database")
        secret = password if password is not None else self.password(role)
        who, what = sql.Identifier(role), sql.Identifier(database)
        with self._connect() as connection:
            known = _exists(connection, "SELECT FROM pg_roles WHERE rolname = %s", role)
            change = (
                "ALTER ROLE {} LOGIN PASSWORD {}" if known else "CREATE ROLE {} LOGIN PASSWORD {}"
            )
            connection.execute(sql.SQL(change).format(who, sql.Literal(secret)))
            if not _exists(connection, "SELECT FROM pg_database WHERE datname = %s", database):
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(what, who))
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(what))
        return self.dsn(database, role, secret)

    def set_synchronous(self, names: Sequence[str]) -> None:
        """Make commits wait for one of the named replicas; for none if the list is empty."""
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
        value = f"ANY 1 ({quoted})" if names else ""
        with self._connect() as connection:
            connection.execute(
                sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(
                    sql.Literal(value)
                )
            )
            connection.execute("SELECT pg_reload_conf()")

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(self.recipe)
        self.version = program.version
        folder, data = self.folder, self.data_dir
        self._refuse_other_major(program)
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)  # half made: the first try was cut short
            if self.primary is None:
                self._initdb(program)
            else:
                self._base_backup(program, self.primary)
        sockets = socket_folder(folder)
        self.place.write(data / "pg_hba.conf", HOST_RULES)
        self.place.write(data / "postgresql.conf", render(self._all_settings(sockets)))
        return self.launch([str(program.path), "-D", str(data)])

    def probe(self) -> None:
        try:
            with self._connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ServerFailed(
                    f"{self.name} refuses the stored password of its superuser. Its data folder "
                    f"{self.data_dir} belongs to other secrets. Try: ./lab clean."
                ) from error
            raise NotReady(str(error)) from error

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self.superuser_dsn(),
            autocommit=True,
            connect_timeout=2,
            options="-c statement_timeout=20s",
        )

    def _all_settings(self, sockets: str) -> dict[str, str]:
        settings = {
            **DEFAULTS,
            "port": str(self.port),
            "cluster_name": self.name,
            "unix_socket_directories": sockets,
        }
        if self.primary is not None:
            settings["primary_conninfo"] = primary_conninfo(
                self.primary.port, self._passfile(self.primary), self.application_name
            )
            settings["primary_slot_name"] = self.slot
        return {**settings, **self.settings}

    def _initdb(self, program: Program) -> None:
        word = self.folder / "superuser.password"
        self.place.write(word, self.password("postgres"))
        command = [program.beside("initdb"), "-D", str(self.data_dir), "--no-sync"]
        command += ["-U", "postgres", "--auth=scram-sha-256", f"--pwfile={word}"]
        command += ["-E", "UTF8", "--locale=C", "--data-checksums"]
        try:
            self.run_as_server(command, what=f"initdb of {self.name}", timeout_s=120)
        finally:
            word.unlink(missing_ok=True)

    def _base_backup(self, program: Program, primary: Postgres) -> None:
        primary.prepare_for_replica(self.slot)
        conninfo = primary_conninfo(primary.port, self._passfile(primary), self.application_name)
        command = [program.beside("pg_basebackup"), "-d", conninfo, "-D", str(self.data_dir)]
        command += ["-S", self.slot, "-X", "stream", "-c", "fast", "--no-sync"]
        self.run_as_server(command, what=f"pg_basebackup of {self.name}", timeout_s=300)
        self.place.write(self.data_dir / "standby.signal", "")

    def prepare_for_replica(self, slot: str) -> None:
        """Have the replication role and a physical slot; repeatable."""
        who = sql.Identifier(REPLICATION_ROLE)
        with self._connect() as connection:
            # Replicas that start side by side would both find no role. It ends with the session.
            connection.execute("SELECT pg_advisory_lock(%s)", (_ONE_REPLICA_AT_A_TIME,))
            if not _exists(connection, "SELECT FROM pg_roles WHERE rolname = %s", REPLICATION_ROLE):
                statement = sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}")
                word = sql.Literal(self.password(REPLICATION_ROLE))
                connection.execute(statement.format(who, word))
            # A slot that fell too far behind is lost; a new base backup does not need its past.
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s AND wal_status = 'lost' AND NOT active",
                (slot,),
            )
            known = "SELECT FROM pg_replication_slots WHERE slot_name = %s"
            if not _exists(connection, known, slot):
                connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (slot,))

    def replication_passfile(self, folder: Path) -> Path:
        """A password file in `folder` for whoever follows this server's log."""
        path = folder / "replication.pgpass"
        word = self.password(REPLICATION_ROLE)
        self.place.write(path, f"*:*:*:{REPLICATION_ROLE}:{word}\n")
        return path

    def _passfile(self, primary: Postgres) -> Path:
        return primary.replication_passfile(self.folder)

    def _refuse_other_major(self, program: Program) -> None:
        try:
            made_by = int((self.data_dir / "PG_VERSION").read_text())
        except FileNotFoundError:
            return
        if made_by != program.major:
            raise ServerFailed(
                f"{self.data_dir} was made by PostgreSQL {made_by}, and {program.path} is "
                f"{program.version}. Try: ./lab clean, or the provider that made it."
            )


def _exists(connection: psycopg.Connection[Any], query: Any, value: str) -> bool:
    return connection.execute(query, (value,)).fetchone() is not None
