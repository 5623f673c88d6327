"""One node of Patroni: a PostgreSQL that is told by its neighbour process whether it may lead.

Each node is one child of the runtime: an `adopt` wrapper, below it Patroni and the PostgreSQL that
Patroni let go, so that kill, pause, memory and the end of the parent reach all of them.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil

from scalelab.lab.servers import patroni_program, processes
from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady, ServerFailed
from scalelab.lab.servers.etcd import Etcd, EtcdGateway
from scalelab.lab.servers.patroni_config import NodePlace, PatroniSettings, render
from scalelab.lab.servers.postgres_config import RECIPE, socket_folder
from scalelab.lab.servers.processes import Launch, StopSteps

_ADOPT = Path(__file__).with_name("adopt.py")
_CALLBACK = '#!/bin/sh\nprintf "%s %s\\n" "$1" "$2" >> "$(dirname "$0")/role_changes"\n'


def postmaster_in(lock_file: str) -> int | None:
    """The postmaster's process id, by the text of postmaster.pid; None if it names none.

    A server that Patroni runs alone, to recover from a crash before it starts PostgreSQL, writes
    its id there as a negative number. It is no postmaster, and nobody can connect to it.
    """
    first, _, _ = lock_file.partition("\n")
    return int(first) if first.isascii() and first.isdigit() else None


class PatroniNode(Server):
    """One Patroni with its PostgreSQL. Made by PatroniCluster; its port is PostgreSQL's."""

    default_port = 5432
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_steps: StopSteps = ((signal.SIGTERM, 25.0), (signal.SIGTERM, 5.0))
    ready_within_s = 120.0

    def __init__(
        self,
        name: str,
        *,
        scope: str,
        etcd: Etcd | EtcdGateway,
        settings: PatroniSettings,
        tags: Mapping[str, bool | int] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(name, port)
        self.scope = scope
        self._etcd = etcd
        self._settings = settings
        self._tags = dict(tags or {})

    @property
    def after(self) -> Sequence[Server]:
        return (self._etcd,) if isinstance(self._etcd, Etcd) else ()

    @property
    def rest_port(self) -> int:
        """Where Patroni answers HTTP."""
        return self.place.port(f"{self.name}-rest", 8008)

    @property
    def rest_url(self) -> str:
        """Base address of Patroni's HTTP interface."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def data_dir(self) -> Path:
        """PGDATA."""
        return self.folder / "data"

    def dsn(self, database: str = "postgres", role: str = "postgres") -> str:
        """Connection URL of this very node, whatever its role is."""
        word = self._word(role)
        return f"postgresql://{role}:{word}@127.0.0.1:{self.port}/{database}"

    def role_changes(self) -> list[str]:
        """What the callback was told, oldest first: `on_role_change primary`."""
        path = self.folder / "role_changes"
        return path.read_text(encoding="ascii").splitlines() if path.exists() else []

    def prepare(self) -> Launch:
        place = self.place
        program = patroni_program.obtain(place.providers, place.account)
        postgres = place.providers.obtain(RECIPE)
        if not os.access(postgres.beside("pg_rewind"), os.X_OK):
            raise ServerFailed(f"{postgres.path} comes without pg_rewind, which Patroni needs.")
        self.version = f"{program.version} (PostgreSQL {postgres.version})"
        folder = self.folder
        callback = folder / "on_role_change"
        place.write(callback, _CALLBACK, mode=0o600)
        adopt = folder / "adopt.py"
        place.write(adopt, _ADOPT.read_text(encoding="utf-8"))
        config = folder / "patroni.json"
        roles = ("postgres", "replicator", "rewinder", "rest")
        place.write(
            config,
            render(
                NodePlace(
                    scope=self.scope,
                    name=self.name,
                    port=self.port,
                    rest_port=self.rest_port,
                    etcd=f"127.0.0.1:{self._etcd.port}",
                    data=str(self.data_dir),
                    sockets=socket_folder(folder),
                    bin=str(postgres.path.parent),
                    passfile=str(folder / "pgpass"),
                    callback=str(callback),
                    words={role: self._word(role) for role in roles},
                    tags=self._tags,
                ),
                self._settings,
            ),
        )
        wrapper = [str(program.interpreter), "-I", "-S", str(adopt)]
        return self.launch([*wrapper, *program.command(config)])

    def probe(self) -> None:
        """Ready: PostgreSQL runs here, as the primary or as a replica that replicates."""
        status, body = self.ask("GET", "/patroni")
        if status != 200:
            raise NotReady(f"PostgreSQL is {body.get('state', '?')}")
        role, state = body.get("role"), body.get("replication_state")
        if role not in ("primary", "master") and state != "streaming":
            raise NotReady(f"a {role} that is {state or 'not streaming'}")

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One question to Patroni's HTTP interface: status and JSON; a list as {"list": ...}.

        Raises NotReady if Patroni does not answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=5.0)
        word = base64.b64encode(f"patroni:{self._word('rest')}".encode()).decode()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Authorization": f"Basic {word}"})
            answer = connection.getresponse()
            read = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        try:
            found: Any = json.loads(read)
        except ValueError:
            return answer.status, {"text": read.decode(errors="replace")}
        return answer.status, {"list": found} if isinstance(found, list) else found

    def postmaster(self) -> int | None:
        """PostgreSQL's process here, or None."""
        try:
            pid = postmaster_in((self.data_dir / "postmaster.pid").read_text())
            return pid if pid and "postgres" in psutil.Process(pid).name() else None
        except (FileNotFoundError, psutil.Error):
            return None

    def patroni(self) -> int | None:
        """Patroni's process here, or None."""
        members = self._patronis()
        return members[0].pid if members else None

    def kill_postgres(self) -> None:
        """SIGKILL PostgreSQL with all its processes; Patroni lives on and will notice."""
        members = processes.family(self.postmaster() or 0)
        if not members:
            raise ServerFailed(f"{self.name} has no PostgreSQL that runs.")
        _send(members, signal.SIGKILL)
        processes.await_end(members, within_s=10.0)

    def kill_patroni(self) -> None:
        """SIGKILL Patroni alone: its PostgreSQL goes on, and nobody can tell it to stop."""
        members = self._patronis()
        if not members:
            raise ServerFailed(f"{self.name} has no Patroni that runs.")
        _send(members, signal.SIGKILL)
        processes.await_end(members, within_s=10.0)

    def hold_replication(self) -> None:
        """SIGSTOP the processes that send the log to replicas: connections stay, nothing leaves."""
        members = processes.family(self.postmaster() or 0)[1:]
        senders = [one for one in members if "walsender" in _command(one)]
        if not senders:
            raise ServerFailed(f"{self.name} sends its log to nobody.")
        _send(senders, signal.SIGSTOP)

    def _patronis(self) -> list[psutil.Process]:
        """Patroni and its short-lived children, told by the configuration in their command."""
        config = str(self.folder / "patroni.json")
        adopt = str(self.folder / "adopt.py")
        found: list[psutil.Process] = []
        for one in psutil.process_iter(["cmdline"]):
            words: list[str] = one.info["cmdline"] or []
            if config in words and adopt not in words:
                found.append(one)
        return found

    def _word(self, role: str) -> str:
        return self.place.secret(f"{self.scope}.{role}")


def _command(process: psutil.Process) -> str:
    """Its command line; "" for one that has ended meanwhile, as workers of PostgreSQL do."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _send(members: Sequence[psutil.Process], number: signal.Signals) -> None:
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(number)
