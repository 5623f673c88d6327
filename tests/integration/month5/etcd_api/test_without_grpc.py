"""A stack in a small set of packages: etcd's API is JSON alone, and nothing else is missing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from month5_kvstore import stack
from tests.integration.month5.etcd_api.api import Api, b64

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime


def test_without_grpcio_the_json_gateway_stands_beside_the_nodes_own_api(
    own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node starts, and etcd's address of it is its one port."""
    monkeypatch.setattr(stack, "speaks_grpc", lambda: False)
    made = stack.start_stack(own_runtime, nodes=1)
    assert made.etcd_urls == made.urls
    with closing(Api(made.etcd_urls[1])) as api:
        api.put(b"key", b"value")
        assert api.range(b"key")["kvs"][0]["value"] == b64(b"value")
