"""Three nodes of ours and a member of etcd, side by side, for all tests of the room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.month5.etcd_api.api import Api
from tests.integration.month5.node.cluster import Cluster, cluster_in

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime


@pytest.fixture(scope="session")
def cluster(server_root: Path) -> Iterator[Cluster]:
    """Nobody breaks it."""
    with cluster_in(server_root / "etcd_api") as made:
        yield made


@pytest.fixture(scope="session")
def ours(cluster: Cluster) -> Iterator[list[Api]]:
    """The JSON gateway of each node."""
    apis = [Api(url) for _, url in sorted(cluster.stack.etcd_urls.items())]
    yield apis
    for api in apis:
        api.close()


@pytest.fixture(scope="session")
def theirs(runtime: Runtime) -> Iterator[Api]:
    """The JSON gateway of etcd itself."""
    from scalelab.lab.servers import Etcd

    server = Etcd("etcd-beside")
    runtime.start(server)
    api = Api(f"http://127.0.0.1:{server.port}")
    yield api
    api.close()
