"""What a runtime needs to know of any server, and what it grants to one."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scalelab.errors import InvalidInput
from scalelab.lab.servers import processes
from scalelab.lab.servers.account import Account, hand_over
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Providers

_PASSED_ON = ("PATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Place:
    """What a runtime grants to its servers. data: a folder the account can reach."""

    data: Path
    logs: Path
    account: Account | None
    providers: Providers
    secret: Callable[[str], str]
    port: Callable[[str, int], int]

    def folder(self, name: str) -> Path:
        """The server's own folder, owned by its account, closed to others."""
        folder = self.data / name
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            hand_over(self.account, folder)
        owner = folder.stat().st_uid
        if owner != (self.account.uid if self.account else os.geteuid()):
            raise ServerFailed(
                f"The data folder {folder} belongs to user {owner}: the stack was first started "
                f"by somebody else. Try: start it as that user, or ./lab clean as that user."
            )
        return folder

    def write(self, path: Path, text: str, *, mode: int = 0o600) -> None:
        """Write a configuration file that the account owns; replaced whole, never half written."""
        aside = path.with_name(f".{path.name}.new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        hand_over(self.account, aside)
        aside.replace(path)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The few variables of ours that a child inherits, plus `extra`.

    Everything else is left out so that a variable set in somebody's shell configures no server.
    """
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env.setdefault("PATH", os.defpath)
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


class Server(ABC):
    """One server process, before and after it runs. Not thread-safe; a Runtime serialises calls.

    Life: made with a name; `bind` fixes its place and port; `prepare` installs the program and
    writes its files (again before every start: it must be idempotent); `probe` asks it something.
    """

    default_port: ClassVar[int]
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)
    ready_within_s: float = 30.0
    restart: bool = False
    """Whether a runtime brings it back when it dies by itself."""

    def __init__(self, name: str, port: int | None) -> None:
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
            raise InvalidInput(f"{name!r} is not a name for a server", field="name")
        self.name = name
        self.version: str | None = None
        self._port = port
        self._place: Place | None = None

    @property
    def port(self) -> int:
        """The port it listens on. Raises ServerFailed before a runtime has chosen one."""
        if self._port is None:
            raise ServerFailed(f"{self.name} has no port before a runtime starts it.")
        return self._port

    @property
    def place(self) -> Place:
        """What the runtime granted. Raises ServerFailed before `bind`."""
        if self._place is None:
            raise ServerFailed(f"{self.name} is not part of a runtime yet; give it to start().")
        return self._place

    @property
    def folder(self) -> Path:
        """The server's own folder below the runtime's data."""
        return self.place.folder(self.name)

    @property
    def log(self) -> Path:
        """Where its standard output and error go."""
        return self.place.logs / f"{self.name}.log"

    @property
    def after(self) -> Sequence[Server]:
        """Servers that must be ready before this one is prepared."""
        return ()

    def bind(self, place: Place) -> None:
        """Take a place and fix the port. Called once by the runtime; binding twice is an error."""
        if self._place is not None:
            raise ServerFailed(f"{self.name} is already part of a runtime.")
        self._place = place
        if self._port is None:
            self._port = place.port(self.name, self.default_port)

    def run_as_server(
        self,
        argv: Sequence[str],
        *,
        what: str,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a short command as the server's account, its output into the server's log."""
        launch = Launch(
            argv=tuple(argv),
            env=environment(env),
            cwd=self.folder,
            log=self.log,
            account=self.place.account,
        )
        processes.run(launch, timeout_s=timeout_s, what=what)

    def launch(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Launch:
        """The command line of the server itself, under its account, in its folder."""
        return Launch(
            argv=tuple(argv),
            env=environment(env),
            cwd=self.folder,
            log=self.log,
            account=self.place.account,
            death_signal=self.death_signal,
        )

    @abstractmethod
    def prepare(self) -> Launch:
        """Have the program, write the files, say how to start. Blocking; repeatable.

        Raises ServerMissing or ServerFailed with a sentence for a person.
        """

    @abstractmethod
    def probe(self) -> None:
        """One real exchange with the server, at most about a second. Raises NotReady."""
