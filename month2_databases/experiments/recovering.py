"""A server with a backup tool, of an experiment, a bench or a test; and copies of it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from month2_databases.backup import (
    FolderSettings,
    FolderTool,
    Owner,
    PgBackRest,
    PgBackRestSettings,
    Prepared,
)
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres, PostgresCopy, Providers, WalReceiver
from scalelab.lab.servers.account import server_account
from scalelab.lab.servers.pgbackrest import RECIPE as PGBACKREST
from scalelab.lab.servers.postgres_config import RECIPE as POSTGRES

ToolName = Literal["folder", "pgbackrest"]


@dataclass(slots=True)
class Recovering:
    """A running primary whose log goes to `tool`. copies: names for copies not yet taken."""

    runtime: Runtime
    primary: Postgres
    tool: FolderTool | PgBackRest
    copies: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def into(self) -> Path:
        """A folder for the next copy, not yet made, which the servers' account can reach."""
        name = f"{self.primary.name}-copy-{next(self.copies)}"
        return self.primary.place.folder(name) / "data"

    @contextmanager
    def start_copy(self, prepared: Prepared) -> Generator[str]:
        """The copy on a private port; stopped at the end. ServerFailed if it ends itself."""
        copy = PostgresCopy(
            prepared.data.parent.name, self.primary, prepared.data, prepared.settings
        )
        self.runtime.start(copy)
        try:
            yield copy.superuser_dsn()
        finally:
            self.runtime.stop(copy.name)


def start_recovering(
    runtime: Runtime,
    name: str,
    tool: ToolName,
    providers: Providers,
    *,
    settings: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> Recovering:
    """Start a primary and make its tool; its archive command is in force, no backup taken yet.

    root: of the repository, by default beside the server's data.
    """
    primary = Postgres(name, settings=settings)
    runtime.start(primary)
    root = root or runtime.data / f"{name}-repository"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    made: FolderTool | PgBackRest
    if tool == "folder":
        made = folder_tool(runtime, primary, providers, root)
    else:
        made = PgBackRest(
            PgBackRestSettings(
                root,
                providers.obtain(PGBACKREST).path,
                primary.data_dir,
                primary.port,
                primary.password("postgres"),
                runtime.secret(f"{name}.backup"),
                _owner(),
            )
        )
    primary.settings |= made.archive_settings()
    runtime.restart(name)
    if isinstance(made, PgBackRest):
        made.create_stanza()
    return Recovering(runtime, primary, made)


def folder_tool(
    runtime: Runtime, primary: Postgres, providers: Providers, root: Path
) -> FolderTool:
    """Our own tool for `primary` on the repository at `root`, with the key of that server."""
    programs = providers.obtain(POSTGRES).path.parent
    settings = FolderSettings(root, primary.superuser_dsn(), programs, _owner())
    return FolderTool(settings, bytes.fromhex(_key(runtime, primary.name)))


def start_receiver(recovering: Recovering) -> WalReceiver:
    """Stream the log into the folder tool's repository; commits wait until it is there."""
    tool = recovering.tool
    if not isinstance(tool, FolderTool):
        raise TypeError("only the folder tool takes a streamed log")
    receiver = WalReceiver(recovering.primary, tool.stream)
    recovering.runtime.start(receiver)
    recovering.primary.set_synchronous([receiver.name])
    return receiver


def _owner() -> Owner | None:
    account = server_account()
    return Owner(account.uid, account.gid) if account else None


def _key(runtime: Runtime, name: str) -> str:
    """32 bytes as hex from the runtime's secret of that name."""
    return hashlib.sha256(runtime.secret(f"{name}.backup").encode()).hexdigest()
