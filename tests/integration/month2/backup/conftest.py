"""Servers with a backup tool each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from month2_databases.experiments.recovering import Recovering
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Providers

FAST = {"fsync": "off", "full_page_writes": "on"}


@pytest.fixture(scope="session")
def providers() -> Providers:
    """Where programs come from, as the environment says."""
    from scalelab.lab.servers import ProviderOptions, Providers

    return Providers(ProviderOptions.from_environment(os.environ))


@pytest.fixture(scope="session")
def backup_runtime(server_root: Path, providers: Providers) -> Iterator[Runtime]:
    """A runtime of the backup tests alone."""
    from scalelab.lab.runtime import Runtime

    with Runtime(server_root / "backup", private=True, providers=providers) as running:
        yield running


@pytest.fixture(scope="session")
def kept(backup_runtime: Runtime, providers: Providers) -> Recovering:
    """A primary with our own tool and one backup; who damages the repository repairs it."""
    from month2_databases.experiments.recovering import start_recovering

    started = start_recovering(backup_runtime, "kept", "folder", providers, settings=FAST)
    started.tool.backup()
    return started


@pytest.fixture(scope="session")
def rested(backup_runtime: Runtime, providers: Providers) -> Recovering:
    """A primary whose log goes to pgBackRest; it has a backup."""
    from month2_databases.experiments.recovering import start_recovering

    started = start_recovering(backup_runtime, "rested", "pgbackrest", providers, settings=FAST)
    started.tool.backup()
    return started
