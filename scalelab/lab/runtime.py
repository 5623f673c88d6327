"""One stack's processes: started together, watched, broken on purpose, stopped in reverse.

    with Runtime(root, private=False) as runtime:
        primary = Postgres("orders-0", port=5433)
        runtime.start(primary, primary.add_replica("orders-0-r1"), Redis())
        runtime.service(ServiceSpec("orders", ("python", "-m", "..."), port=8001))

Everything blocks; calls may come from several threads, and calls about one name take turns. When
the process that owns a Runtime dies, by any signal, its children are ended by the kernel.

What stands below `root`: `secrets/` (mode 0700), `logs/NAME.log` (bounded, see `servers.logs`),
and `data/NAME/` unless the servers' account cannot reach it (see `servers.account`);
`Runtime.data` says where it is.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from scalelab.lab.servers.account import can_reach, reachable, server_account, stand_in
from scalelab.lab.servers.base import Place, Server
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.logs import keep_small
from scalelab.lab.servers.managed import GivenUp, Managed, ProcessStatus, Progress
from scalelab.lab.servers.ports import Ports
from scalelab.lab.servers.processes import Spawner
from scalelab.lab.servers.providers import ProviderOptions, Providers
from scalelab.lab.servers.secret_files import SecretFiles
from scalelab.lab.servers.service import Service, ServiceSpec

__all__ = ["ProcessStatus", "Progress", "Runtime", "ServiceSpec", "remove_data"]

_WATCH_EVERY_S = 0.1
_LOOK_AT_LOGS_EVERY_S = 5.0


class Runtime:
    """Owner of all child processes of one stack.

    root: folder of this stack, made if missing. private: take free ports instead of the fixed ones,
    for tests and for a second stack. observer: called with Progress from several threads; it must
    not block or raise. providers: where programs come from; by default as the environment says.
    keep_data: leave a private stack's data where they are, even outside `root`, for `remove_data`.
    is_disposable: nobody will read its data again, so `close` ends all as if their parent had died.
    """

    def __init__(
        self,
        root: Path,
        *,
        private: bool,
        observer: Callable[[Progress], None] | None = None,
        providers: Providers | None = None,
        keep_data: bool = False,
        is_disposable: bool = False,
    ) -> None:
        self.root = root.absolute()
        self._private = private
        self._keep_data = keep_data
        self._ended = Managed.abandon if is_disposable else Managed.stop
        self._observer = observer or _ignore
        self._account = server_account()
        self._providers = providers
        self.root.mkdir(parents=True, exist_ok=True)
        if self._account and can_reach(self._account, self.root.parent):
            self.root.chmod(self.root.stat().st_mode & 0o777 | 0o011)  # pass through, not list
        self.data = reachable(self._account, self.root / "data")
        self._ports = Ports(private=private)
        self._secrets = SecretFiles(self.root / "secrets")
        self._managed: dict[str, Managed] = {}
        self._lock = threading.Lock()
        self._groups = 0
        self._closing = threading.Event()
        self._spawner = Spawner(f"spawner of {self.root.name}")
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def port(self, name: str, default: int) -> int:
        """`default` if it is free and the runtime not private, else a free port; one per name."""
        return self._ports.port(name, default)

    def secret(self, name: str) -> str:
        """The secret of that name, made once, kept in a file of mode 0600 below `root/secrets`."""
        return self._secrets.get(name)

    def secret_path(self, name: str) -> Path:
        """The file of a secret, for services that read it from a file; made if missing."""
        self._secrets.get(name)
        return self._secrets.path(name)

    def log_path(self, name: str) -> Path:
        """Where the output of a server goes."""
        return self.root / "logs" / f"{name}.log"

    def start(self, *servers: Server) -> None:
        """Prepare and spawn all, then wait until all are ready; replicas after their primaries.

        Raises ServerMissing or ServerFailed of the first that fails. What runs by then keeps
        running until `close`; a failed one may be tried again by `restart`.
        """
        managed = self._adopt(servers)
        if not managed:
            return
        abort = threading.Event()
        with ThreadPoolExecutor(len(managed), thread_name_prefix="start") as pool:
            try:
                futures: list[Future[None]] = []
                for one in managed:
                    others = [self._named(other.name) for other in one.server.after]
                    futures.append(pool.submit(one.bring_up, others, abort))
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:  # Ctrl-C while waiting: let the threads give up, too
                abort.set()
                raise
        if errors:
            raise next((e for e in errors if not isinstance(e, GivenUp)), errors[0])

    def service(self, spec: ServiceSpec) -> Service:
        """Start one of our own services and wait until it answers 200 on its readiness path."""
        return self.services(spec)[0]

    def services(self, *specs: ServiceSpec) -> list[Service]:
        """Start several services at once and wait for all; quicker than one after the other."""
        made = [Service(spec) for spec in specs]
        self.start(*made)
        return made

    def server(self, name: str) -> Server:
        """The server of that name. ServerFailed if there is none."""
        return self._named(name).server

    def status(self) -> list[ProcessStatus]:
        """All servers in the order of their start. Reading memory costs some ms a process."""
        return [one.status() for one in self._everything()]

    def kill(self, name: str) -> None:
        """SIGKILL the server and its children and wait until they are gone. Data stays.

        One with `restart` set comes back by itself; any other waits for `restart(name)`.
        """
        self._named(name).kill()

    def stop(self, name: str) -> None:
        """Stop the server as its kind wants to be stopped; SIGKILL if it does not. Repeatable."""
        self._named(name).stop()

    def restart(self, name: str) -> None:
        """Stop it if it runs, then start it on the same port and data; wait until ready."""
        self._named(name).restart()

    def pause(self, name: str) -> None:
        """SIGSTOP the server and its children: alive, connections held, nothing answered."""
        self._named(name).pause()

    def resume(self, name: str) -> None:
        """SIGCONT after `pause`."""
        self._named(name).resume()

    def close(self) -> None:
        """Stop everything, last started first, those of one `start` call together. Repeatable."""
        self._closing.set()
        try:
            for group in range(self._groups, 0, -1):
                members = [one for one in self._everything() if one.group == group]
                if members:
                    with ThreadPoolExecutor(len(members), thread_name_prefix="stop") as pool:
                        list(pool.map(self._ended, members))
        finally:
            for one in self._everything():
                one.kill()
            self._watcher.join()
            self._spawner.close()
            self._ports.release()
        if self._private and not self._keep_data and self.root not in self.data.parents:
            remove_data(self.root)

    def _adopt(self, servers: tuple[Server, ...]) -> list[Managed]:
        with self._lock:
            if self._closing.is_set():
                raise ServerFailed("The stack is closed; nothing more can be started in it.")
            for server in servers:
                if server.name in self._managed:
                    raise ServerFailed(
                        f"This stack has a server named {server.name} already; "
                        f"restart() starts it again."
                    )
            self._groups += 1
            return [self._adopt_one(server, self._groups) for server in servers]

    def _adopt_one(self, server: Server, group: int) -> Managed:
        if self._providers is None:
            self._providers = Providers(ProviderOptions.from_environment(os.environ))
        place = Place(
            data=self.data,
            logs=self.root / "logs",
            account=self._account,
            providers=self._providers,
            secret=self.secret,
            port=self.port,
        )
        server.bind(place)
        self._managed[server.name] = Managed(
            server,
            group=group,
            spawner=self._spawner,
            closing=self._closing,
            observer=self._observer,
        )
        return self._managed[server.name]

    def _named(self, name: str) -> Managed:
        with self._lock:
            if name in self._managed:
                return self._managed[name]
            known = ", ".join(self._managed) or "none"
        raise ServerFailed(f"No server named {name} in this stack; there is: {known}.")

    def _everything(self) -> list[Managed]:
        with self._lock:
            return list(self._managed.values())

    def _watch(self) -> None:
        """Notice deaths and bring back what asks for it, one after the other; keep logs small."""
        looked_s = time.monotonic()
        while not self._closing.wait(_WATCH_EVERY_S):
            for one in self._everything():
                one.watch()
            if time.monotonic() - looked_s >= _LOOK_AT_LOGS_EVERY_S:
                keep_small(self.root / "logs")
                for one in self._everything():  # a server that writes its request log by itself
                    keep_small(self.data / one.server.name, pattern="access.log")
                looked_s = time.monotonic()


def remove_data(root: Path) -> None:
    """Remove the servers' data of a stack that is not running, wherever it stands; keep secrets."""
    wanted = root.absolute() / "data"
    for folder in (wanted, stand_in(wanted)):
        if folder.is_dir():
            shutil.rmtree(folder)


def _ignore(progress: Progress) -> None:
    """The observer of a runtime that nobody watches."""
