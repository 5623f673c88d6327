"""Three real nodes for tests: asked by HTTP, watched through /status, broken on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from month5_kvstore.node import GROUPS, group_of
from month5_kvstore.stack import Stack, node_name, start_stack
from scalelab.lab.runtime import Runtime

WITHIN_S = 60.0


class Cluster:
    """A stack with an HTTP client for each node."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.runtime = stack.runtime
        self.nodes = {
            node: httpx.Client(base_url=url, timeout=60.0, params={"deadline_s": "30"})
            for node, url in stack.urls.items()
        }

    def close(self) -> None:
        for client in self.nodes.values():
            client.close()

    def groups(self, node: int) -> list[dict[str, Any]]:
        """What /status says of the groups; empty if the node does not answer."""
        try:
            answer = self.nodes[node].get("/status", timeout=5.0)
        except httpx.TransportError:
            return []
        groups: list[dict[str, Any]] = answer.json()["groups"] if answer.is_success else []
        return groups

    def leader(self, key: str, among: tuple[int, ...] = (1, 2, 3)) -> int:
        """Wait until one of these nodes leads the key's group; returns it."""
        found: list[int] = []

        def leads() -> bool:
            group = group_of(key.encode())
            views = [(node, self.groups(node)) for node in among]
            terms = [(view[group]["term"], node) for node, view in views if view]
            leading = [
                (view[group]["term"], node)
                for node, view in views
                if view and view[group]["role"] == "leader"
            ]
            if leading and max(leading)[0] == max(terms)[0]:
                found.append(max(leading)[1])
            return bool(found)

        wait_for(leads, f"a leader for {key}")
        return found[-1]

    def is_settled(self) -> bool:
        """Whether all nodes have applied the same up to the same place, in every group."""
        views = [self.groups(node) for node in self.nodes]
        wanted = ("term", "applied", "revision", "keys", "size_bytes")
        return all(views) and all(
            len({tuple(view[group][name] for name in wanted) for view in views}) == 1
            and views[0][group]["leader"]
            for group in range(GROUPS)
        )


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; AssertionError after a minute."""
    end_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end_s, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.05)


@contextmanager
def cluster_in(folder: Path, **options: Any) -> Iterator[Cluster]:
    """A private one, stopped at the end."""
    with Runtime(folder, private=True) as runtime:
        cluster = Cluster(start_stack(runtime, restart=False, **options))
        try:
            yield cluster
        finally:
            cluster.close()


__all__ = ["Cluster", "cluster_in", "node_name", "wait_for"]
