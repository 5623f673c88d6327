"""Three nodes of ours and a member of etcd, side by side, for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.month5.etcd_api.api import Api
from tests.integration.month5.node.cluster import Cluster, cluster_in

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, server_root: Path) -> Iterator[Cluster]:
    """Nobody breaks it; not a whole session's, for its nodes work while nobody asks."""
    name = request.module.__name__.rpartition(".")[2]
    with cluster_in(server_root / f"etcd_api-{name}") as made:
        yield made


@pytest.fixture(scope="module")
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
