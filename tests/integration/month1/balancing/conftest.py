"""A private stack for nodes that are killed, frozen and restarted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelab.lab.runtime import Runtime
from tests.integration.month1.balancing.nodes import NodeProcess, started


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime of this module's own."""
    with Runtime(tmp_path_factory.mktemp("balancing"), private=True) as running:
        yield running


@pytest.fixture
def nodes(stack: Runtime, tmp_path: Path) -> Iterator[list[NodeProcess]]:
    """Three processes of one service."""
    with started(stack, tmp_path) as made:
        yield made
