"""Three nodes that nobody breaks, once for all claims about what they answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.month5.node.cluster import Cluster, cluster_in


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A private stack with an HTTP client for each node."""
    with cluster_in(tmp_path_factory.mktemp("kv")) as made:
        yield made
